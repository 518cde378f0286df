"""GPTQ: rounds weights column after column, and lets the columns still free make up for it.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2023, https://arxiv.org/abs/2210.17323. The order of columns without act-order keeps
groups whole and takes groups, and columns within a group, by falling diagonal of the Hessian
(Gafni et al., "Dual Precision Quantization for Efficient and Accurate Deep Neural Networks
Inference", 2025, call this group-aware reordering).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 128
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized weight: integers [out, in], scales [out, groups], g_idx [in]."""

    integers: Tensor
    scales: Tensor
    g_idx: Tensor

    def dequantized(self) -> Tensor:
        """The weight [out, in] in float32 that a kernel computes with (scales in float16)."""
        return self.integers.float() * self.scales.half().float()[:, self.g_idx.long()]


class Hessian:
    """2 X X^T, averaged over all tokens that a layer was shown; [in, in]."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._sum = torch.zeros(width, width, device=device)
        self._num_tokens = 0

    def add(self, inputs: Tensor) -> None:
        """Takes in the inputs of a layer, [..., in]."""
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        self._sum += rows.T @ rows
        self._num_tokens += rows.shape[0]

    def value(self) -> Tensor:
        """The average so far."""
        return self._sum * (2 / max(self._num_tokens, 1))


def quantize_weight(
    weight: Tensor,
    hessian: Tensor,
    *,
    bits: int,
    group_size: int,
    desc_act: bool,
    damp_percent: float,
) -> Quantized:
    """The weight [out, in] rounded to `bits` bits, symmetric around zero.

    Args:
        weight: [out, in].
        hessian: [in, in], from `Hessian.value`.
        bits: bits of an integer.
        group_size: columns that share a scale; divides `in`.
        desc_act: take columns by falling Hessian diagonal across groups (act-order).
        damp_percent: share of the mean diagonal that is added to the diagonal.
    """
    width = weight.shape[1]
    order = _act_order(hessian) if desc_act else _group_order(hessian, group_size)
    integers, scales = _quantize_in_order(
        weight.float()[:, order], hessian[order][:, order], bits, group_size, damp_percent
    )
    back = torch.empty_like(order)
    back[order] = torch.arange(width, device=order.device)
    integers = integers[:, back]
    groups = back // group_size  # the group, by place in the order, of each original column
    if not desc_act:
        # Groups stayed whole, so they can bear their natural numbers: g_idx = column // size.
        first = groups[::group_size]
        scales, groups = scales[:, first], torch.arange(width, device=order.device) // group_size
    return Quantized(integers, scales, groups)


def _act_order(hessian: Tensor) -> Tensor:
    return hessian.diagonal().argsort(descending=True, stable=True)


def _group_order(hessian: Tensor, group_size: int) -> Tensor:
    importance = hessian.diagonal().view(-1, group_size)  # [groups, size]
    inner = importance.argsort(dim=1, descending=True, stable=True)
    outer = importance.amax(1).argsort(descending=True, stable=True)
    starts = torch.arange(importance.shape[0], device=hessian.device)[:, None] * group_size
    return (inner + starts)[outer].flatten()


def _quantize_in_order(
    weight: Tensor, hessian: Tensor, bits: int, group_size: int, damp_percent: float
) -> tuple[Tensor, Tensor]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    width = weight.shape[1]
    weight = weight.clone()
    factor = _inverse_factor(weight, hessian, damp_percent)
    integers = torch.zeros_like(weight, dtype=torch.int8)
    scales = torch.zeros(weight.shape[0], width // group_size, device=weight.device)
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        errors = torch.zeros_like(weight[:, start:stop])
        for column in range(start, stop):
            if column % group_size == 0:
                group = weight[:, column : column + group_size].clone()
                _settle(group, errors, factor, (start, column, stop))
                scales[:, column // group_size] = best_scale(group, high)
            scale = scales[:, column // group_size]
            exact = weight[:, column]
            rounded = (exact / scale).round().clamp(low, high)
            integers[:, column] = rounded.to(torch.int8)
            error = (exact - rounded * scale) / factor[column, column]
            errors[:, column - start] = error
            weight[:, column + 1 : stop] -= torch.outer(error, factor[column, column + 1 : stop])
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return integers, scales


def _settle(group: Tensor, errors: Tensor, factor: Tensor, span: tuple[int, int, int]) -> None:
    """Applies this block's errors so far to the columns of a group that lie beyond the block."""
    start, column, stop = span
    beyond = column + group.shape[1] - stop
    if beyond > 0:
        made = errors[:, : column - start]
        group[:, -beyond:] -= made @ factor[start:column, stop : stop + beyond]


def _inverse_factor(weight: Tensor, hessian: Tensor, damp_percent: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped Hessian; dead inputs are zeroed."""
    hessian = hessian.clone()
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    mean = hessian.diagonal().mean()
    eye = torch.eye(hessian.shape[0], device=hessian.device)
    while True:
        try:
            lower = torch.linalg.cholesky(hessian + damp_percent * mean * eye)
            factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
            return factor
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            # Inputs that depend on each other leave float32 no positive matrix: dampen more.
            if damp_percent > 1:
                raise
            damp_percent *= 4


def best_scale(group: Tensor, high: int) -> Tensor:
    """The scale [out] for a group [out, size] with the least squared rounding error.

    Tries the scale that just covers the largest weight, and some smaller ones.
    """
    largest = group.abs().amax(1).clamp(min=1e-8)
    best, best_error = largest, torch.full_like(largest, torch.inf)
    for shrink in _SHRINKS:
        scale = largest * shrink / high
        rounded = (group / scale[:, None]).round().clamp(-high - 1, high)
        error = (rounded * scale[:, None] - group).square().sum(1)
        best = torch.where(error < best_error, scale, best)
        best_error = torch.minimum(error, best_error)
    return best.half().float().clamp(min=1e-7)
