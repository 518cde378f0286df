"""Products with frozen weights in 8 bits: approximate, and twice as fast where there is VNNI.

Every row of the left matrix and every row of the right one is scaled so that its largest entry
becomes 127, and rounded; products of the rounded are exact in int32:

    x Wᵀ ≈ s_x (X₈ W₈ᵀ) s_W,   dy W ≈ s_dy (dY₈ (Wᵀ)₈ᵀ) s_{Wᵀ}

So W is kept twice, rounded by its rows for the way forward and by its columns for the way back.

Source: Dettmers et al. 2022, "LLM.int8()" (vector-wise quantization, here without outliers apart).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 127


@dataclass(frozen=True, slots=True)
class Rounded:
    """A matrix in 8 bits: `entries` [n, k] times `scale` [n, 1], in float32."""

    entries: Tensor
    scale: Tensor


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A frozen weight [out, in], rounded by its rows, and its transpose likewise."""

    by_rows: Rounded
    by_columns: Rounded

    def __len__(self) -> int:
        return len(self.by_rows.entries)


def round_rows(x: Tensor) -> Rounded:
    """Every row of a matrix in 8 bits; a row of zeros stays one."""
    scale = x.abs().amax(1, keepdim=True).float().div_(LARGEST).clamp_min_(1e-30)
    return Rounded((x / scale).round_().to(torch.int8), scale)


def round_weight(weight: Tensor) -> Int8Weight:
    """A weight in 8 bits, for both ways."""
    high = weight.detach().float()
    return Int8Weight(round_rows(high), round_rows(high.T.contiguous()))


def product(x: Rounded, weight: Rounded, dtype: torch.dtype) -> Tensor:
    """The product x wᵀ [rows of x, rows of weight] of two rounded matrices."""
    exact = torch._int_mm(x.entries, weight.entries.T)
    return exact.to(torch.float32).mul_(weight.scale.T).mul_(x.scale).to(dtype)
