"""A PEFT model of the Llama-like family, read as what the fast path needs: weights and updates.

Nothing is asked of a model's name. Whatever has this family's layers qualifies, and a comparison
with the model's own forward and backward (backends.py) decides whether it computes the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from burnish.scoring import plain_head_decoder
from burnish.training.llama.attention import rounding
from burnish.training.llama.int8 import Int8Weight, round_weight
from burnish.training.llama.layer import Frozen, Rotation, layer, room_for
from burnish.training.llama.linear import Stack
from burnish.training.llama.pointwise import rms_norm, rms_norm_backward, wide
from burnish.training.loss import PLAIN, LossTerms, cross_entropy_sum
from burnish.training.packing import Row, pad_row


class Unfit(Exception):
    """Why a model can't take the fast path, in words for the log."""


@dataclass(frozen=True, slots=True)
class LlamaLike:
    """The parts of a model that the fast path computes with; they share the model's memory.

    Attributes:
        embedding: weight [vocab, hidden].
        layers: each layer's frozen weights, and its updates A, B, A, B …
        rotary: the model's own module for cos and sin.
        norm: weight of the last norm [hidden], and its eps.
        head: weight [vocab, hidden] and bias [vocab] if any.
    """

    embedding: Tensor
    layers: tuple[tuple[Frozen, tuple[nn.Parameter, ...]], ...]
    rotary: nn.Module
    norm: tuple[Tensor, float]
    head: tuple[Tensor, Tensor | None]

    def loss_sum(self, row: Row, terms: LossTerms = PLAIN, *, num_recomputed: int = 0) -> Tensor:
        """The sum of the losses of a row's supervised tokens, a scalar with gradient.

        Args:
            row: records one behind the other.
            terms: what is added to plain cross entropy.
            num_recomputed: so many layers keep only their input and go forward twice.
        """
        row = rounded_up(row, self.embedding.dtype)
        x = self.embedding[row.input_ids]
        rotation = self._rotation(x, row.position_ids)
        learning = [update for _, updates in self.layers for update in updates]
        places = iter(room_for(learning) if torch.is_grad_enabled() else ())
        for index, (frozen, updates) in enumerate(self.layers):
            room, recompute = list(islice(places, len(updates))), index < num_recomputed
            x = layer(x, frozen, rotation, row.segments, updates, room=room, recompute=recompute)
        weight, eps = self.norm
        final_norm: Any = _FinalNorm.apply
        hidden = final_norm(x[row.predictors], weight, eps)
        head, bias = self.head
        return cross_entropy_sum(hidden, head, row.targets, bias=bias, terms=terms)

    def in_8_bits(self) -> LlamaLike:
        """The same with the weights of its layers rounded to 8 bits, for approximate products."""
        layers = tuple((_rounded(frozen), updates) for frozen, updates in self.layers)
        return replace(self, layers=layers)

    def _rotation(self, x: Tensor, position_ids: Tensor) -> Rotation:
        """The cos and sin of position × frequency, by the model's own module, for positions [T]."""
        with torch.no_grad():
            # In the wide type, whatever the model's: the rotation itself rounds once.
            cos, sin = self.rotary(wide(x)[None, :1], position_ids[None])
        half = cos.shape[-1] // 2
        cos, sin = cos[0, :, None, None, :half], sin[0, :, None, None, :half]
        scale = self.layers[0][0].width ** -0.5
        return Rotation(cos, sin, cos * scale, sin * scale)


def rounded_up(row: Row, dtype: torch.dtype) -> Row:
    """The row as layers take it: longer by tokens that nothing sees, up to a multiple of some.

    So rows have few lengths, and none at which products are slow: see `ROUND`.
    """
    padded = pad_row(row, rounding(dtype))
    if padded is row:
        return row
    *before, last, padding = padded.segments
    return replace(padded, segments=(*before, replace(last, stop=padding.stop)))


def _rounded(frozen: Frozen) -> Frozen:
    qkv, o, gate_up, down = (
        replace(stack, weights=tuple(map(_in_8_bits, stack.weights))) for stack in frozen.stacks()
    )
    return replace(frozen, qkv=qkv, o=o, gate_up=gate_up, down=down)


def _in_8_bits(weight: Tensor | Int8Weight) -> Int8Weight:
    return weight if isinstance(weight, Int8Weight) else round_weight(weight)


class _FinalNorm(torch.autograd.Function):
    """`rms_norm` of [n, hidden] with its derivative, as a node for autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, ctx.r = rms_norm(x, weight, eps)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        return rms_norm_backward(grad_outputs[0], x, ctx.r, weight), None, None


def read_model(model: Any) -> LlamaLike:
    """The parts of a PEFT model, which is left as it is.

    Raises:
        Unfit: the model, its adapter or its weights are not what the fast path computes.
    """
    _require(hasattr(model, "get_base_model"), "weights of the model itself learn")
    base = model.get_base_model()
    body: Any = getattr(base, "model", None)
    _require(hasattr(body, "layers") and hasattr(body, "rotary_emb"), "it has no Llama-like body")
    _require(not getattr(base, "is_quantized", False), "its base is quantized")
    _check_config(base.config)
    layers = tuple(_read_layer(block, base.config) for block in body.layers)
    turned = 2 * len(body.rotary_emb.inv_freq)
    _require(turned == layers[0][0].width, "it turns only a part of every head")
    head = base.get_output_embeddings()
    _require(
        plain_head_decoder(base) is not None and type(head) is nn.Linear,
        "its head is no plain linear layer",
    )
    _check_all_found(model, layers)
    return LlamaLike(
        embedding=body.embed_tokens.weight,
        layers=layers,
        rotary=body.rotary_emb,
        norm=(body.norm.weight, _eps(body.norm)),
        head=(head.weight, head.bias),
    )


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise Unfit(why)


def _check_config(config: Any) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    _require(kind in ("default", "linear", "llama3", "yarn"), f"its RoPE is {kind}")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    _require(kinds == {"full_attention"}, "some of its layers see only a window")
    window = getattr(config, "sliding_window", None)
    _require(not (window and getattr(config, "use_sliding_window", True)), "it sees only a window")
    _require(not getattr(config, "attention_dropout", 0), "its attention has dropout")
    _require(getattr(config, "hidden_act", None) in ("silu", "swish"), "its activation is not SiLU")


def _read_layer(block: Any, config: Any) -> tuple[Frozen, tuple[nn.Parameter, ...]]:
    attention: Any = getattr(block, "self_attn", None)
    mlp: Any = getattr(block, "mlp", None)
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    _require(all(hasattr(attention, name) for name in names), "its attention has other parts")
    parts = ("gate_proj", "up_proj", "down_proj")
    _require(all(hasattr(mlp, name) for name in parts), "its MLP has other parts")
    norms = ("input_layernorm", "post_attention_layernorm")
    _require(all(hasattr(block, name) for name in norms), "its norms stand elsewhere")
    groups = (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )
    stacks, updates = zip(*map(_read_stack, groups), strict=True)
    qkv, o, gate_up, down = stacks
    width = attention.head_dim
    frozen = Frozen(
        qkv=qkv,
        o=o,
        gate_up=gate_up,
        down=down,
        norm1=block.input_layernorm.weight,
        norm2=block.post_attention_layernorm.weight,
        q_norm=_head_norm(attention, "q_norm", width),
        k_norm=_head_norm(attention, "k_norm", width),
        eps=_eps(block.input_layernorm),
        num_key_heads=config.num_key_value_heads,
        width=width,
    )
    return frozen, tuple(parameter for group in updates for parameter in group)


def _head_norm(attention: Any, name: str, width: int) -> Tensor | None:
    norm = getattr(attention, name, None)
    if norm is None:
        return None
    _require(norm.weight.shape == (width,), "it norms all heads together")
    weight: Tensor = norm.weight
    return weight


def _eps(norm: Any) -> float:
    return float(norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps)


def _read_stack(modules: list[Any]) -> tuple[Stack, list[nn.Parameter]]:
    linears = [getattr(module, "base_layer", module) for module in modules]
    _require(all(type(linear) is nn.Linear for linear in linears), "its layers are not linear")
    scales: list[float | None] = []
    parameters: list[nn.Parameter] = []
    for module, linear in zip(modules, linears, strict=True):
        scale, pair = (None, []) if module is linear else _read_lora(module)
        scales.append(scale)
        parameters += pair
    weights, biases = zip(*((linear.weight, linear.bias) for linear in linears), strict=True)
    return Stack(weights, biases, tuple(scales)), parameters


def _read_lora(module: Any) -> tuple[float, list[nn.Parameter]]:
    from peft.tuners.lora import Linear as LoraLinear

    _require(type(module) is LoraLinear, "its adapter is no plain LoRA")
    names = list(module.lora_A)
    _require(names == module.active_adapters and len(names) == 1, "it has several adapters")
    name = names[0]
    _require(not module.merged, "its adapter is merged")
    _require(not getattr(module, "lora_variant", {}), "its adapter is a variant of LoRA (DoRA …)")
    _require(isinstance(module.lora_dropout[name], nn.Identity), "lora_dropout is not 0")
    a, b = module.lora_A[name], module.lora_B[name]
    _require(a.bias is None and b.bias is None, "its adapter has biases")
    return float(module.scaling[name]), [a.weight, b.weight]


def _check_all_found(
    model: nn.Module, layers: tuple[tuple[Frozen, tuple[nn.Parameter, ...]], ...]
) -> None:
    found = {id(parameter) for _, updates in layers for parameter in updates}
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    others = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in found]
    _require(bool(learning), "nothing of it learns")
    _require(not others, f"{', '.join(others[:3])} learns too")
