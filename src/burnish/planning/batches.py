"""The micro batches of an epoch, as far as memory and time depend on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

Record = tuple[Sequence[int], Sequence[int]]
"""Token ids and labels."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A packed row, which goes through the model alone.

    Attributes:
        length: tokens that are computed; a beginning that records share counts once.
        supervised: how many of them predict a token that carries loss; at least 1.
        segments: whatever the loop needs to make such a row again.
        scores: pairs of a query and a key that attention computes.
    """

    length: int
    supervised: int
    segments: tuple[tuple[int, ...], ...]
    scores: int


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """The rows of an epoch, or of as many records as were looked at.

    Attributes:
        batches: the rows.
        lanes: how many of them are at work at a time, at most.
        share: how much of the epoch they are.
    """

    batches: tuple[Batch, ...]
    lanes: int = 1
    share: float = 1.0

    @property
    def lengths(self) -> Ints:
        """Tokens that each computes."""
        return np.array([batch.length for batch in self.batches], dtype=np.int64)

    @property
    def supervised(self) -> Ints:
        """Tokens of each that carry loss."""
        return np.array([batch.supervised for batch in self.batches], dtype=np.int64)

    @property
    def scores(self) -> Ints:
        """Pairs of a query and a key of each."""
        return np.array([batch.scores for batch in self.batches], dtype=np.int64)

    @property
    def num_waves(self) -> float:
        """How often rows go to work in an epoch, as many at a time as there are lanes."""
        return len(self.batches) / self.lanes / self.share

    def whole(self, of_each: NDArray[Any]) -> float:
        """The sum over an epoch of what each row has."""
        return float(of_each.sum()) / self.share

    @property
    def worst(self) -> Batch:
        """No row takes more memory than this: as long as the longest, as much loss as any."""
        longest = max(self.batches, key=lambda batch: batch.length)
        most = min(int(self.supervised.max()), longest.length - 1)
        return dataclasses.replace(longest, supervised=max(most, 1))

    @property
    def packing_efficiency(self) -> float:
        """Tokens over places, if every row had room for as much as the longest; 1.0 is full."""
        return float(self.lengths.mean() / self.lengths.max())
