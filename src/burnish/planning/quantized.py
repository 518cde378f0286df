"""Stand-ins for bitsandbytes' linear layers that take the memory those take, without weights.

What bitsandbytes 0.50 does, by its autograd functions: nothing but the packed weight is kept for
the backward pass in 4 bits; both passes make the whole weight once (MatMul4Bit). In 8 bits the
input is kept, and a forward pass makes it in float16 and int8, and sums in int32 (MatMul8bitLt).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from burnish.planning.shape import quantizable

SCALE_BYTES_4BIT = 1 / 64 + 4 / (64 * 256)
"""Bytes of scale a weight in nf4 with double quantization: 8 bits per 64, 32 bits per 64 x 256."""


class _MatMul(torch.autograd.Function):
    """y = x W^T with W made anew in each pass; x is kept in 8 bits, not in 4."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, bits: int) -> Tensor:
        ctx.packed, ctx.kept = packed, x if bits == 8 else None
        if bits == 4:
            return torch.nn.functional.linear(x, torch.empty_like(packed, dtype=x.dtype))
        rows = x.reshape(-1, x.shape[-1]).to(torch.float16).to(torch.int8)
        sums = rows.new_empty((rows.shape[0], packed.shape[0]), dtype=torch.int32)
        out = (sums * x.new_ones(())).to(x.dtype)
        return out.reshape(*x.shape[:-1], packed.shape[0])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (gradient,) = grad_outputs
        weight = torch.empty_like(ctx.packed, dtype=gradient.dtype)
        return gradient @ weight, None, None


class QuantizedLinear(torch.nn.Linear):
    """A frozen linear layer held in 8 or 4 bits that computes in another type."""

    bits = 4
    compute_dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features], in the type of the input."""
        apply: Any = _MatMul.apply
        y: Tensor = apply(x.to(self.compute_dtype), self.weight, self.bits)
        y = y if self.bias is None else y + self.bias
        return y.to(x.dtype)


def quantize_shape(model: Any, bits: int, compute_dtype: torch.dtype) -> None:
    """Puts stand-ins in the place of a meta model's linear layers; the rest goes to float32.

    Source: peft, prepare_model_for_kbit_training, which casts what is not quantized to float32.
    """
    model.to(torch.float32)
    for name, linear in list(quantizable(model)):
        with torch.device("meta"):
            twin = QuantizedLinear(
                linear.in_features, linear.out_features, bias=linear.bias is not None
            )
        twin.bits, twin.compute_dtype = bits, compute_dtype
        model.set_submodule(name, twin)


def weight_bytes(model: Any) -> int:
    """Bytes of a meta model's weights, stand-ins at their packed width with scales, tied once."""
    packed = {id(m.weight): m for m in model.modules() if isinstance(m, QuantizedLinear)}
    total = 0.0
    for parameter in model.parameters():
        module = packed.get(id(parameter))
        if module is None:
            total += parameter.numel() * parameter.element_size()
        elif module.bits == 8:
            total += parameter.numel() + 4 * module.out_features
        else:
            total += parameter.numel() * (0.5 + SCALE_BYTES_4BIT)
    return int(total)
