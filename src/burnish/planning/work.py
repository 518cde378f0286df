"""What a training step multiplies: matrix products alone, each multiply-add as 2 FLOPs.

    2 of every frozen weight a token: y = x Wᵀ, and backward dx = dy W
    3 of every weight that learns, adapters too: dW = dyᵀ x is the third
    the head for supervised tokens only
    attention: q kᵀ and p v; backward the scores again, dv, dp, dq and dk: 7 products over all
    pairs of a token with one that it sees

Embeddings, norms, softmax and the optimizer count for nothing.

Sources: Kaplan et al., "Scaling Laws for Neural Language Models", 2020, section 2.1; Chowdhery et
al. 2022, "PaLM", appendix B.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from burnish.models.lora import base_of
from burnish.planning.shape import share_of_tokens


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix [rows, columns] that a token goes through `uses` times (in all layers alike)."""

    rows: int
    columns: int
    uses: float
    learns: bool = False
    is_head: bool = False

    def flops(self) -> float:
        """Of one token, forward and backward."""
        return (3 if self.learns else 2) * self.forward()

    def forward(self) -> float:
        """Of one token, forward alone."""
        return 2.0 * self.rows * self.columns * self.uses


@dataclass(frozen=True, slots=True)
class Work:
    """What a training step multiplies; its numbers of tokens may be arrays, row by row.

    Attributes:
        layers: the matrices.
        attention_width: heads times their width, summed over the layers.
    """

    layers: tuple[Layer, ...]
    attention_width: float

    def flops(self, *, tokens: Any, supervised: Any, pairs: Any) -> Any:
        """FLOPs for so many tokens, so many of them supervised, and pairs in attention."""
        body = sum(layer.flops() for layer in self.layers if not layer.is_head)
        head = sum(layer.flops() for layer in self.layers if layer.is_head)
        return tokens * body + supervised * head + 7 * 2.0 * pairs * self.attention_width

    def forward(self, *, tokens: Any, supervised: Any, pairs: Any) -> Any:
        """FLOPs of the forward pass alone."""
        body = sum(layer.forward() for layer in self.layers if not layer.is_head)
        head = sum(layer.forward() for layer in self.layers if layer.is_head)
        return tokens * body + supervised * head + 2 * 2.0 * pairs * self.attention_width


def work_of(model: Any) -> Work:
    """The matrices of a model, quantized ones and experts included, and the width of attention.

    A window in attention is not looked at: every token counts as seeing all before it.
    """
    base = base_of(model)
    config = base.config.get_text_config()
    head = base.get_output_embeddings()
    head = getattr(head, "base_layer", head)
    found: dict[tuple[int, int, bool, bool], float] = defaultdict(float)
    for name, module in base.named_modules():
        if "original_module" in name:  # what PEFT keeps beside a copy that learns
            continue
        share = share_of_tokens(config) if ".experts." in f".{name}." else 1.0
        for rows, columns, count, learns in _matrices(module):
            found[rows, columns, learns, module is head] += share * count
    layers = tuple(Layer(r, c, uses, learns, top) for (r, c, learns, top), uses in found.items())
    heads = getattr(config, "num_attention_heads", 0) or 0
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    return Work(layers, getattr(config, "num_hidden_layers", 0) * heads * width)


def _matrices(module: Any) -> Iterator[tuple[int, int, int, bool]]:
    """Rows, columns, number and whether they learn, of what a module itself multiplies with."""
    if hasattr(module, "base_layer"):  # an adapter's shell: its parts are modules of their own
        return
    own = list(module.parameters(recurse=False))
    learns = any(p.requires_grad and p.ndim > 1 for p in own)
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        yield module.out_features, module.in_features, 1, learns
    elif hasattr(module, "nf") and hasattr(module, "nx"):  # GPT-2's Conv1D
        yield module.nf, module.nx, 1, learns
    for p in own:
        if p.ndim == 3 and not isinstance(module, torch.nn.Conv1d):  # experts in one tensor
            yield p.shape[1], p.shape[2], p.shape[0], p.requires_grad
