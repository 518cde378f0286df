"""LoftQ's start of an adapter on a 4-bit base: what quantizing lost, as far as rank r holds it.

For a weight W [out, in] that is held as Q, and the scale s of the update:

    s B A = the best approximation of W - Q of rank r

This is LoftQ with one step (T = 1): the base stays what bitsandbytes made of W. peft's own function
for it wants a GPU and takes s for 1.

Source: Li et al. 2023, "LoftQ: LoRA-Fine-Tuning-Aware Quantization", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.errors import ModelError


def start_from_residual(model: Any, folder: Path) -> None:
    """Puts LoftQ's values into the fresh adapter of a PEFT model.

    Args:
        model: a PeftModel on a base in 4 bits.
        folder: the base's weights as they were before quantization.

    Raises:
        ModelError: the folder's safetensors have no weight of a layer's name.
    """
    from bitsandbytes.functional import dequantize_4bit
    from peft.tuners.lora import Linear4bit
    from safetensors import safe_open

    files = _files_by_tensor(folder)
    base = model.get_base_model()
    with torch.no_grad():
        for name, layer in base.named_modules():
            if not isinstance(layer, Linear4bit):
                continue
            file = files.get(f"{name}.weight")
            if file is None:
                raise ModelError(
                    str(folder),
                    f"its files hold no {name}.weight to start LoftQ from.",
                    "Set train.lora.init_lora_weights: true.",
                )
            with safe_open(file, framework="pt") as tensors:
                whole = tensors.get_tensor(f"{name}.weight")
            held = layer.get_base_layer().weight
            quantized = dequantize_4bit(held.data, held.quant_state).float()
            residual = whole.to(quantized) - quantized
            for adapter, scale in layer.scaling.items():
                a, b = split(residual / scale, layer.r[adapter])
                layer.lora_A[adapter].weight.copy_(a)
                layer.lora_B[adapter].weight.copy_(b)


def split(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [rank, in] and B [out, rank] whose product B A is nearest to a matrix [out, in]."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


def _files_by_tensor(folder: Path) -> Mapping[str, Path]:
    return dict(_tensors(folder))


def _tensors(folder: Path) -> Iterator[tuple[str, Path]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():
                yield name, path
