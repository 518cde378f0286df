"""What is measured on the lengths of rows: percentiles, bars, the length that covers most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
"""The percentiles of a report, by the name under which they stand there."""

NUM_BARS = 20
"""About so many bars of a histogram hold 99 % of the rows."""


@dataclass(frozen=True, slots=True)
class Bar:
    """How many rows are at least `start` long and shorter than `stop` (None: however long)."""

    start: int
    stop: int | None
    count: int


def percentiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    """The length that so many percent of the rows do not exceed; empty where there are none.

    Each is the length of some row: nothing is interpolated.
    """
    if not len(lengths):
        return {}
    values = np.percentile(lengths, list(PERCENTILES.values()), method="inverted_cdf")
    return {name: int(value) for name, value in zip(PERCENTILES, values, strict=True)}


def histogram(lengths: NDArray[np.int64]) -> list[Bar]:
    """Rows by length, in bars of one round width; the last bar takes all that is longer."""
    if not len(lengths):
        return []
    most = percentiles(lengths)["p99"]
    width = _round_width(most / NUM_BARS)
    num_bars = most // width + 1
    counts = np.bincount(np.minimum(lengths // width, num_bars), minlength=num_bars + 1)
    bars = [Bar(i * width, (i + 1) * width, int(counts[i])) for i in range(num_bars)]
    longer = int(counts[num_bars])
    return [*bars, Bar(num_bars * width, None, longer)] if longer else bars


def _round_width(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 … that is not below."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10


def covering_length(lengths: NDArray[np.int64], percent: int = 99) -> int:
    """The multiple of 8 that at least so many percent of the rows do not exceed."""
    longest = int(np.percentile(lengths, percent, method="inverted_cdf"))
    return max(8, -(-longest // 8) * 8)
