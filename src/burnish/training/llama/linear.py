"""Frozen linear layers side by side, each with its LoRA update: forward and backward.

Layers that read the same input (q, k and v) write their results side by side, as if
their weights were one matrix W [out, in] of stacked rows. Layer i writes columns y_i and has, where
it is adapted, A_i [r, in], B_i [out_i, r] and the factor s_i:

    y = x Wᵀ + bias,    y_i += s_i (x A_iᵀ) B_iᵀ

To stack the weights in fact would cost a second copy of them and gain nothing measurable.

Source: Hu et al. 2021, "LoRA".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.training.llama.int8 import Int8Weight, Rounded, product, round_rows


@dataclass(frozen=True, slots=True)
class Update:
    """Where the LoRA update of one layer goes: columns [start, stop) of y, times `scale`."""

    start: int
    stop: int
    scale: float


@dataclass(frozen=True, slots=True)
class Stack:
    """Frozen layers of one input, whose results stand side by side.

    Attributes:
        weights: [out_i, in] of each layer: the model's own, never copied; or rounded to 8 bits.
        bias: [out] of all layers, if any has one.
        updates: of the layers that are adapted.
    """

    weights: tuple[Tensor | Int8Weight, ...]
    bias: Tensor | None
    updates: tuple[Update, ...]


Pair = tuple[Tensor, Tensor]
"""A [r, in] and B [out_i, r] of one update."""


def stack_forward(x: Tensor, stack: Stack, pairs: list[Pair]) -> tuple[Tensor, list[Tensor]]:
    """The result y [T, out], and u_i = x A_iᵀ [T, r] of every update for the backward pass."""
    y = x.new_empty(len(x), sum(map(len, stack.weights)))
    _through_weights(x, stack, y)
    if stack.bias is not None:
        y += stack.bias
    us = [x @ a.T for a, _ in pairs]
    for update, u, (_, b) in zip(stack.updates, us, pairs, strict=True):
        y[:, update.start : update.stop].addmm_(u, b.T, alpha=update.scale)
    return y, us


def stack_backward(  # noqa: PLR0913
    dy: Tensor,
    x: Tensor,
    us: list[Tensor],
    stack: Stack,
    pairs: list[Pair],
    *,
    wants_dx: bool = True,
    dx: Tensor | None = None,
) -> tuple[Tensor, list[Pair]]:
    """The gradients of x and of every A_i and B_i.

        dx = dy W + Σ du_i A_i,   dA_i = du_iᵀ x,   dB_i = s_i dy_iᵀ u_i   with du_i = s_i dy_i B_i

    dx is empty unless wanted: nothing that learns stands before the first layer. It is added to the
    `dx` that is given, of another stack with the same input.
    """
    dx = _back_through_weights(dy, stack, dx) if wants_dx else dy.new_empty(0)
    gradients = []
    for update, u, (a, b) in zip(stack.updates, us, pairs, strict=True):
        dy_i = dy[:, update.start : update.stop]
        du = (dy_i @ b).mul_(update.scale)
        if wants_dx:
            dx.addmm_(du, a)
        gradients.append((du.T @ x, (u.T @ dy_i).mul_(update.scale).T))
    return dx, gradients


def _through_weights(x: Tensor, stack: Stack, y: Tensor) -> None:
    """The products x Wᵀ of all layers, into their columns of y."""
    rounded: Rounded | None = None
    for weight, part in zip(stack.weights, _parts(y, stack), strict=True):
        if isinstance(weight, Int8Weight):
            rounded = rounded or round_rows(x)
            part.copy_(product(rounded, weight.by_rows, y.dtype))
        else:
            torch.mm(x, weight.T, out=part)


def _back_through_weights(dy: Tensor, stack: Stack, dx: Tensor | None) -> Tensor:
    """The product dy W, summed over the layers, and added to what is given."""
    for weight, part in zip(stack.weights, _parts(dy, stack), strict=True):
        if isinstance(weight, Int8Weight):
            more = product(round_rows(part), weight.by_columns, dy.dtype)
            dx = more if dx is None else dx.add_(more)
        else:
            dx = part @ weight if dx is None else dx.addmm_(part, weight)
    assert dx is not None
    return dx


def _parts(y: Tensor, stack: Stack) -> Sequence[Tensor]:
    """The columns of each layer."""
    parts: Sequence[Tensor] = y.split_with_sizes(list(map(len, stack.weights)), 1)
    return parts
