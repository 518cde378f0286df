"""A stand-in for the product that is grouped by expert, where torch knows no shape for it.

Of `torch.nn.functional.grouped_mm` torch 2.13 knows the shape in bfloat16 alone, although on a CPU
it computes in float32 too. What it keeps for the backward pass is what a product keeps: the input
where the weights learn, and nothing where they are frozen.
"""

from __future__ import annotations

import contextlib
from typing import Any
from unittest import mock

import torch
from torch import Tensor


class _GroupedProduct(torch.autograd.Function):
    """x [tokens, in] and weights [experts, in, out] -> [tokens, out], shapes only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight, ctx.x = weight, x if weight.requires_grad else None
        return x.new_empty(x.shape[0], weight.shape[2])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (gradient,) = grad_outputs
        dx = gradient.new_empty(gradient.shape[0], ctx.weight.shape[1])
        return dx, None if ctx.x is None else torch.empty_like(ctx.weight)


def _grouped_mm(x: Tensor, weight: Tensor, **_: Any) -> Tensor:
    apply: Any = _GroupedProduct.apply
    y: Tensor = apply(x, weight)
    return y


def shapes_of_grouped_products() -> Any:
    """A context in which a product grouped by expert has a shape in every type, and no values."""
    # Before torch 2.10 there is none; then transformers has a product of its own, with shapes.
    there = hasattr(torch.nn.functional, "grouped_mm")
    patch = mock.patch.object(torch.nn.functional, "grouped_mm", _grouped_mm)
    return patch if there else contextlib.nullcontext()
