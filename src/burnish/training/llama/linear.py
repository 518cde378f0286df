"""Frozen linear layers of one input, each with its LoRA update: forward and backward.

Layer i reads x, as all of its stack do (q, k and v; gate and up). It has W_i [out_i, in] and,
where it is adapted, A_i [r_i, in], B_i [out_i, r_i] and the factor s_i:

    y_i = x W_iᵀ + bias_i + s_i u_i B_iᵀ    with u_i = x A_iᵀ

The A_i stand one below the other in products, A [r, in] and u [T, r] with r = Σ r_i, so that x is
read once for all. The y_i are arrays of their own: columns of a common one would be copied before
every product.

Source: Hu et al. 2021, "LoRA".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.training.llama.int8 import Int8Weight, Rounded, product, round_rows


@dataclass(frozen=True, slots=True)
class Stack:
    """Frozen layers of one input.

    Attributes:
        weights: [out_i, in] of each layer: the model's own, never copied; or rounded to 8 bits.
        biases: [out_i] of each, None of one without.
        scales: the factor of each layer's update, None of one that is not adapted.
    """

    weights: tuple[Tensor | Int8Weight, ...]
    biases: tuple[Tensor | None, ...]
    scales: tuple[float | None, ...]

    @property
    def adapted(self) -> list[tuple[int, float]]:
        """The places of the layers that have an update, and its factor."""
        return [(i, scale) for i, scale in enumerate(self.scales) if scale is not None]


Pair = tuple[Tensor, Tensor]
"""A [r, in] and B [out, r] of one update."""


def stack_forward(
    x: Tensor, stack: Stack, pairs: Sequence[Pair]
) -> tuple[list[Tensor], Tensor | None]:
    """The results y_i [T, out_i], and u [T, r] of all updates for the way back, if there are any.

    Args:
        x: [T, in].
        stack: the layers.
        pairs: A and B of those that are adapted, in their order.
    """
    ys: list[Tensor | None] = [None] * len(stack.weights)
    u = None
    if pairs:
        u = x @ _stacked(pairs).T
        for (place, scale), u_i, (_, b) in zip(stack.adapted, _parts(u, pairs), pairs, strict=True):
            ys[place] = _times(scale, u_i, b.T)
    sums = _add_through_weights(ys, x, stack)
    for y, bias in zip(sums, stack.biases, strict=True):
        if bias is not None:
            y += bias
    return sums, u


def stack_backward(
    dys: Sequence[Tensor],
    x: Tensor,
    u: Tensor | None,
    stack: Stack,
    pairs: Sequence[Pair],
    *,
    wants_dx: bool = True,
) -> tuple[Tensor, list[Pair]]:
    """The gradients of x and of every A_i and B_i.

        dx = Σ dy_i W_i + du A,   dA = duᵀ x,   dB_i = s_i dy_iᵀ u_i   with du_i = s_i dy_i B_i

    dx is empty unless wanted: nothing that learns stands before the first layer.
    """
    dx = x.new_empty(0)
    if u is None:
        if wants_dx:
            dx = _add_back_through_weights(None, dys, stack)
        return dx, []
    du, d_bs = torch.empty_like(u), []
    updates = zip(stack.adapted, _parts(u, pairs), _parts(du, pairs), pairs, strict=True)
    for (place, scale), u_i, du_i, (_, b) in updates:
        torch.mul(dys[place] @ b, scale, out=du_i)
        d_bs.append((u_i.T @ dys[place]).mul_(scale).T)
    if wants_dx:
        dx = _add_back_through_weights(du @ _stacked(pairs), dys, stack)
    d_as = (du.T @ x).split_with_sizes([len(a) for a, _ in pairs])
    return dx, list(zip(d_as, d_bs, strict=True))


def _times(scale: float, left: Tensor, right: Tensor) -> Tensor:
    """The product of a factor and two matrices, rounded once."""
    return torch.addmm(left.new_empty(1), left, right, beta=0, alpha=scale)


def _add_through_weights(ys: Sequence[Tensor | None], x: Tensor, stack: Stack) -> list[Tensor]:
    """The sums y_i + x W_iᵀ, in the place of y_i where there is one.

    So the large product adds as it writes; the small one, added behind it, would read all again.
    """
    rounded: Rounded | None = None
    sums = []
    for y, weight in zip(ys, stack.weights, strict=True):
        if isinstance(weight, Int8Weight):
            rounded = rounded or round_rows(x)
            more = product(rounded, weight.by_rows, x.dtype)
            sums.append(more if y is None else y.add_(more))
        else:
            sums.append(x @ weight.T if y is None else y.addmm_(x, weight.T))
    return sums


def _add_back_through_weights(dx: Tensor | None, dys: Sequence[Tensor], stack: Stack) -> Tensor:
    """The sum dx + Σ dy_i W_i, in the place of dx if there is one."""
    for weight, dy in zip(stack.weights, dys, strict=True):
        if isinstance(weight, Int8Weight):
            more = product(round_rows(dy), weight.by_columns, dy.dtype)
            dx = more if dx is None else dx.add_(more)
        else:
            dx = dy @ weight if dx is None else dx.addmm_(dy, weight)
    assert dx is not None
    return dx


def _stacked(pairs: Sequence[Pair]) -> Tensor:
    """All A, one below the other, [r, in]."""
    return torch.cat([a for a, _ in pairs])


def _parts(u: Tensor, pairs: Sequence[Pair]) -> Sequence[Tensor]:
    """The columns of each update."""
    parts: Sequence[Tensor] = u.split_with_sizes([len(a) for a, _ in pairs], 1)
    return parts
