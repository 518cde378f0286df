"""Two ways to compute the same rows, compared: by the loss and by the gradients.

Whatever is faster than a model's own forward has to show on a few records that it computes the
same: the fast path, other kernels, a compiled forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.models.lora import base_of
from burnish.training.packing import Record, Row

LossSum = Callable[[Row], Tensor]

PROBE_RECORDS, PROBE_TOKENS = 3, 96
"""How many records go both ways, and how many tokens of each."""

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
"""How much gradients may differ, relative to their norm, and losses a tenth of that.

A wrong formula differs by about 1. In bfloat16 rounding alone gave 0.11 on a real model.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """The summed loss of some rows, and the gradient of all that learns, in one vector."""

    loss: float
    gradient: Tensor


def probe_of(records: Sequence[Record]) -> list[Record]:
    """The beginnings of a few records, each with something to learn; at least two."""
    cut = []
    for ids, labels in records:
        first = next((i for i, label in enumerate(labels) if label >= 0 and i), None)
        if first is not None:
            start = max(0, first - PROBE_TOKENS // 2)
            cut.append((ids[start:][:PROBE_TOKENS], labels[start:][:PROBE_TOKENS]))
        if len(cut) == PROBE_RECORDS:
            break
    return cut if len(cut) > 1 else cut * 2


@contextmanager
def nudged(model: Any) -> Iterator[None]:
    """Gives random values to what learns and starts at zero, and takes them back at the end.

    B of a fresh adapter is zero, and with it A's gradient: nothing could be seen of it.
    """
    generator = torch.Generator().manual_seed(0)
    zero = [p for p in _learning(model) if not p.any()]
    try:
        for p in zero:
            p.data.copy_(0.02 * torch.randn(p.shape, generator=generator))
        yield
    finally:
        for p in zero:
            p.data.zero_()


def measure(model: Any, loss_sum: LossSum, rows: Sequence[Row]) -> Measured:
    """The loss and gradients of rows, computed one way; no gradient stays on the model.

    One row after another, so that no more is kept than for a row.
    """
    device, learning = device_of(model), _learning(model)
    total, sums = 0.0, [torch.zeros_like(p) for p in learning]
    for row in rows:
        loss = loss_sum(row.to(device))
        gradients = torch.autograd.grad(loss, learning, allow_unused=True, materialize_grads=True)
        total += float(loss.detach())
        torch._foreach_add_(sums, gradients)
    return Measured(total, torch.cat([g.flatten() for g in sums]))


def difference(own: Measured, other: Measured, tolerance: float) -> str:
    """In words, how another way differs from the model's own; empty if it doesn't."""
    loss_off, by = deviation(own, other)
    if loss_off <= tolerance / 10 and by <= tolerance:
        return ""
    return (
        f"its loss is {other.loss:.6g} where the model's own is {own.loss:.6g}, and its gradients "
        f"differ by {by:.1e}"
    )


def deviation(own: Measured, other: Measured) -> tuple[float, float]:
    """By what share of itself the loss differs, and the gradient by what share of its length."""
    by = float((own.gradient - other.gradient).norm() / own.gradient.norm().clamp_min(1e-30))
    return abs(own.loss - other.loss) / max(abs(own.loss), 1e-30), by


def tolerance_of(model: Any) -> float:
    """How much gradients may differ in the type that a model computes in."""
    base, device = base_of(model), device_of(model).type
    if torch.is_autocast_enabled(device):
        return _TOLERANCE[torch.get_autocast_dtype(device)]
    if getattr(base, "is_quantized", False):
        return _TOLERANCE[torch.bfloat16]  # what is not quantized may be wider than its products
    return _TOLERANCE[next(iter(base.parameters())).dtype]


def device_of(model: Any) -> torch.device:
    """Where a model computes."""
    device: torch.device = next(iter(model.parameters())).device
    return device


def _learning(model: Any) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]
