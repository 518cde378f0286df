"""How fast training could be here: the matrix products of a step over what the device can do.

The work of a step is counted in products (planning/work.py). What is computed twice to save memory
counts once, and what records share counts for each of them: it is the work that was useful. The
share of the limit that this reaches is what the field calls MFU, model FLOPs utilization.

Source: Chowdhery et al. 2022, "PaLM", appendix B (MFU).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.planning.work import Work, work_of

PROBE_SECONDS = 0.5
"""How long the probe of a device takes, about."""

_PRODUCT = {"cpu": 1e9, "cuda": 4e11, "mps": 4e10}
"""FLOPs of one product of the probe: a few milliseconds."""

_LONGEST_SIDE, _FEWEST_TOKENS, _MOST_TOKENS, _MOST_SHAPES = 2048, 128, 8192, 4
_MOST_TURNS = 8

_TERAFLOPS = {
    "B200": 2250,
    "H200 NVL": 835,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10G": 70,
    "A10": 125,
    "RTX 4090": 165,
}
"""Dense tensor-core peak of a card in bfloat16, by a part of its name.

The first that fits counts. Source: NVIDIA's data sheets of these cards; where one gives the figure
with sparsity, half of it. Other cards are measured.
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """The work of a step, and the rate of products that nothing here can pass.

    Attributes:
        work: what a step multiplies.
        rate: FLOPs a second; on a CPU of the processor's time, all threads together.
        source: where the rate is from, in words.
        is_cpu: whether the processor's time counts.
    """

    work: Work
    rate: float
    source: str
    is_cpu: bool

    def reached(
        self, *, tokens: float, supervised: float, pairs: float, seconds: float, cpu: float
    ) -> float:
        """The share of the limit that was reached, in so many seconds of clock and processor."""
        flops: float = self.work.flops(tokens=tokens, supervised=supervised, pairs=pairs)
        return flops / max((cpu if self.is_cpu else seconds) * self.rate, 1e-9)


def limit_of(model: Any, dtype: torch.dtype, *, seconds: float = PROBE_SECONDS) -> Limit:
    """The limit of a model with what learns in it, on the device where it lies.

    Args:
        model: a causal model, with or without adapter.
        dtype: what it computes in.
        seconds: how long a device that is on no data sheet is measured.
    """
    work = work_of(model)
    device = next(iter(model.parameters())).device
    known = data_sheet(torch.cuda.get_device_name(device), dtype) if device.type == "cuda" else None
    if known:
        return Limit(work, *known, is_cpu=False)
    started = time.perf_counter()
    rate = measured_rate(work, dtype, device, seconds=seconds)
    unit = "a second of the processor" if device.type == "cpu" else "a second"
    source = (
        f"{rate / 1e9:,.0f} GFLOP {unit}, measured in {time.perf_counter() - started:.1f} s at the "
        f"model's shapes in {str(dtype).removeprefix('torch.')}"
    )
    return Limit(work, rate, source, is_cpu=device.type == "cpu")


def data_sheet(card: str, dtype: torch.dtype) -> tuple[float, str] | None:
    """The peak of a card in FLOPs a second, and where it is from; None for one not in the table."""
    if dtype != torch.bfloat16:
        return None
    words = set(card.replace("-", " ").split())
    if words & {"Laptop", "D", "MIG"}:  # less than the card of that name
        return None
    for name, teraflops in _TERAFLOPS.items():
        if set(name.split()) <= words:
            return teraflops * 1e12, f"{teraflops:,} TFLOP a second by the data sheet of the {name}"
    return None


# --- rate -------------------------------------------------------------------------------------


def measured_rate(
    work: Work, dtype: torch.dtype, device: torch.device, *, seconds: float = PROBE_SECONDS
) -> float:
    """FLOPs a second of forward and backward products at the shapes where most of the work is.

    Each counts as much as it does in the work. On a CPU a second is one of the processor, and all
    threads that torch uses take part. No random number of the process is drawn.
    """
    shapes: dict[tuple[int, int], float] = defaultdict(float)
    for layer in work.layers:
        shape = min(layer.rows, _LONGEST_SIDE), min(layer.columns, _LONGEST_SIDE)
        shapes[shape] += layer.flops()
    chosen = sorted(shapes.items(), key=lambda shape: -shape[1])[:_MOST_SHAPES]
    times = {
        shape: _seconds_per_flop(*shape, dtype, device, seconds=seconds / len(chosen))
        for shape, _ in chosen
    }
    total = sum(flops for _, flops in chosen)
    return total / sum(flops * times[shape] for shape, flops in chosen)


def _seconds_per_flop(
    rows: int, columns: int, dtype: torch.dtype, device: torch.device, *, seconds: float
) -> float:
    """Of y = x Wᵀ and dx = dy W: the shortest of as many turns as fit the time, one at least."""
    wanted = int(_PRODUCT.get(device.type, 1e9) / (2 * rows * columns))
    tokens = min(max(wanted, _FEWEST_TOKENS), _MOST_TOKENS)
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    x, weight, dy = values(tokens, columns), values(rows, columns), values(tokens, rows)
    y, dx = torch.empty_like(dy), torch.empty_like(x)

    def turn() -> None:
        torch.mm(x, weight.T, out=y)
        torch.mm(dy, weight, out=dx)
        if device.type != "cpu":
            y[0, 0].item()  # waits for the device

    return _shortest(turn, device, seconds) / (2 * 2 * tokens * rows * columns)


def _shortest(turn: Callable[[], None], device: torch.device, seconds: float) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    end = time.perf_counter() + seconds
    best = float("inf")
    turn()
    for _ in range(_MOST_TURNS):
        started = clock()
        turn()
        best = min(best, clock() - started)
        if time.perf_counter() >= end:
            break
    return max(best, 1e-9)
