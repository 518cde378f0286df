"""How long training takes: a line through a few rows that are run, or a matrix product's rate.

Seconds of the rows that are at work together are taken as `fixed + FLOPs / rate`, with FLOPs as
planning/work.py counts them; layers that recompute go forward once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.models.lora import base_of
from burnish.planning.batches import MicroBatches, Record
from burnish.planning.loops import Loop
from burnish.planning.work import Work, work_of

Floats = NDArray[np.floating[Any]]

Run = Callable[[Sequence[Record]], None]
"""Takes records forward and back, from `Loop.run`."""

PIECES = (1 / 3, 2 / 3, 1.0)
"""How many of a full row's tokens are run, to tell what grows with them from what does not."""

NUM_REPEATS = 2
"""How often each is run; the shortest time counts, as the one least disturbed by other work."""


@dataclass(frozen=True, slots=True)
class Passes:
    """What rows cost.

    Attributes:
        work: what a model multiplies.
        recomputed: share of the layers that go forward twice.
    """

    work: Work
    recomputed: float = 0.0

    def training(self, batches: MicroBatches) -> Floats:
        """FLOPs of each row, forward and backward."""
        tokens, pairs = batches.lengths, batches.scores
        once = self.work.flops(tokens=tokens, supervised=batches.supervised, pairs=pairs)
        again = self.work.forward(tokens=tokens, supervised=0, pairs=pairs)
        total: Floats = once + self.recomputed * again
        return total

    def evaluation(self, batches: MicroBatches) -> Floats:
        """FLOPs of each row of an evaluation."""
        total: Floats = self.work.forward(
            tokens=batches.lengths, supervised=batches.supervised, pairs=batches.scores
        )
        return total


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of the rows at work together: `fixed + FLOPs / rate`.

    Attributes:
        fixed: seconds that they take whatever their size.
        rate: FLOPs a second.
        cpu_share: seconds of the processor for a second of the clock; below the number of threads
            where other work held this one up.
        measured: how it was found, in words.
    """

    fixed: float
    rate: float
    cpu_share: float
    measured: str

    def seconds(self, batches: MicroBatches, flops: Floats) -> float:
        """Seconds of an epoch of rows, given the FLOPs of each."""
        return self.fixed * batches.num_waves + batches.whole(flops) / self.rate


def passes_of(model: Any, *, num_recomputed: int = 0) -> Passes:
    """What rows cost in a model with its adapter, on whatever device."""
    depth = base_of(model).config.get_text_config().num_hidden_layers
    return Passes(work_of(model), num_recomputed / depth)


def calibrate(
    run: Run,
    records: Sequence[Record],
    num_tokens: int,
    passes: Passes,
    loop: Loop,
) -> Pace:
    """The pace of this machine, from a few records that are run.

    Args:
        run: what is timed.
        records: records to choose from.
        num_tokens: about so many are at work at a time in training.
        passes: what rows cost.
        loop: the training loop.
    """
    pieces = [_first(records, round(share * num_tokens)) for share in PIECES]
    flops = np.array([passes.training(loop.rows(piece)).sum() for piece in pieces])
    _timed(run, pieces[0])  # the first pass of a process is slower
    times = np.array([_shortest(run, piece) for piece in pieces])
    fixed, rate = line(flops, times[:, 0])
    share = float(times[:, 1].sum() / times[:, 0].sum())
    sizes = [sum(len(ids) for ids, _ in piece) for piece in pieces]
    how = f"{', '.join(f'{size:,}' for size in sizes)} tokens of these rows were run"
    return Pace(fixed, rate, share, how)


def _first(records: Sequence[Record], num_tokens: int) -> list[Record]:
    """Records in an order by chance, until they have so many tokens; at least one."""
    chosen: list[Record] = []
    for index in np.random.default_rng(0).permutation(len(records)):
        chosen.append(records[index])
        num_tokens -= len(records[index][0])
        if num_tokens <= 0:
            break
    return chosen


def line(flops: Floats, seconds: Floats) -> tuple[float, float]:
    """Fixed seconds and rate of the line that fits best; neither is ever negative."""
    spread = flops - flops.mean()
    slope = float((spread * seconds).sum() / max((spread**2).sum(), 1e-300))
    fixed = float(seconds.mean() - slope * flops.mean())
    if slope <= 0 or fixed < 0:
        return 0.0, float(flops.sum() / seconds.sum())
    return fixed, 1 / slope


def _shortest(run: Run, records: Sequence[Record]) -> tuple[float, float]:
    """Shortest seconds of the clock, and of the processor, for some records."""
    times = [_timed(run, records) for _ in range(NUM_REPEATS)]
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def _timed(run: Run, records: Sequence[Record]) -> tuple[float, float]:
    started = time.perf_counter(), time.process_time()
    run(records)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def estimate(model: Any, dtype: torch.dtype, loop: Loop) -> Pace:
    """The pace by this machine's rate in the model's own matrix products, for want of weights."""
    rate, how = loop.rate(model, dtype)
    return Pace(0.0, rate, 1.0, how)
