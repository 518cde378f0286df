"""The micro batches of an epoch, what padding they hold, and what packing makes of the rows."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NUM_PACKED = 20_000
"""Packing is tried on at most so many rows: its yield does not change with more."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro batch: so many rows, padded to one length, and how many tokens of it carry loss."""

    size: int
    length: int
    supervised: int
    padded: bool = True


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """The micro batches of an epoch, in order; arrays with an entry for each.

    Attributes:
        sizes: rows.
        lengths: tokens of the longest row, to which the others are padded.
        tokens: tokens that are no padding.
        supervised: tokens that carry loss.
        num_records: the rows of all, before any are packed into one.
    """

    sizes: Ints
    lengths: Ints
    tokens: Ints
    supervised: Ints
    num_records: int

    @property
    def padded(self) -> Ints:
        """Tokens that each computes on, padding included."""
        return self.sizes * self.lengths

    def batch(self, index: int) -> Batch:
        """One of them."""
        return Batch(
            size=int(self.sizes[index]),
            length=int(self.lengths[index]),
            supervised=max(int(self.supervised[index]), 1),
            padded=bool(self.tokens[index] < self.padded[index]),
        )

    @property
    def padding_share(self) -> float:
        """Share of all computed tokens that is padding."""
        return 1 - float(self.tokens.sum() / self.padded.sum())


def length_grouped(
    lengths: Ints, supervised: Ints, *, size: int, accumulation: int, seed: int
) -> MicroBatches:
    """The micro batches of the trainer's `group_by_length`: shuffled, sorted within large groups.

    The order of the trainer is drawn by torch, so the batches here are like those, not the same.

    Source: transformers.trainer_pt_utils.get_length_grouped_indices.
    """
    order = grouped_order(lengths, size * accumulation, np.random.default_rng(seed))
    starts = np.arange(0, len(order), size)
    sizes = np.minimum(size, len(order) - starts)
    return MicroBatches(
        sizes=sizes,
        lengths=np.maximum.reduceat(lengths[order], starts),
        tokens=np.add.reduceat(lengths[order], starts),
        supervised=np.add.reduceat(supervised[order], starts),
        num_records=len(order),
    )


def grouped_order(lengths: Ints, batch_size: int, random: np.random.Generator) -> Ints:
    """Rows shuffled, then sorted from long to short within groups of up to 50 batches."""
    shuffled = random.permutation(len(lengths))
    width = max(min(len(lengths) // (batch_size * 4), 50), 1) * batch_size
    groups = [shuffled[start : start + width] for start in range(0, len(shuffled), width)]
    groups = [group[np.argsort(-lengths[group], kind="stable")] for group in groups]
    longest = int(np.argmax([lengths[group[0]] for group in groups]))
    groups[0][0], groups[longest][0] = groups[longest][0], groups[0][0]
    return np.concatenate(groups)


def sorted_batches(lengths: Ints, supervised: Ints, size: int) -> MicroBatches:
    """The batches of evaluation: rows by length, so many at a time."""
    order = np.argsort(lengths, kind="stable")
    starts = np.arange(0, len(order), size)
    return MicroBatches(
        sizes=np.minimum(size, len(order) - starts),
        lengths=np.maximum.reduceat(lengths[order], starts),
        tokens=np.add.reduceat(lengths[order], starts),
        supervised=np.add.reduceat(supervised[order], starts),
        num_records=len(order),
    )


def packed(
    lengths: Ints, supervised: Ints, *, row_length: int, records: int, seed: int
) -> MicroBatches:
    """The rows of an epoch's steps without padding: so many shuffled records a step, packed.

    A record longer than a row has one of its own. Prefixes that a loop might share are counted as
    often as they stand there.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    rows: list[tuple[int, int]] = []
    for start in range(0, len(order), records):
        step = order[start : start + records]
        rows += _packed_step(lengths[step], supervised[step], row_length)
    sizes = np.ones(len(rows), dtype=np.int64)
    tokens, learned = np.array(rows, dtype=np.int64).T
    return MicroBatches(sizes, tokens, tokens, learned, num_records=len(order))


def _packed_step(lengths: Ints, supervised: Ints, row_length: int) -> list[tuple[int, int]]:
    """Tokens and supervised tokens of each row of a step, first fit decreasing."""
    rows: list[list[int]] = []
    for index in np.argsort(-lengths, kind="stable"):
        length = int(lengths[index])
        row = next((row for row in rows if row[0] + length <= row_length), None)
        if row is None:
            row = [0, 0]
            rows.append(row)
        row[0] += length
        row[1] += int(supervised[index])
    return [(tokens, learned) for tokens, learned in rows]


def packing_efficiency(lengths: Sequence[int], max_length: int) -> float:
    """Share of packed rows of `max_length` that would be tokens: first-fit decreasing.

    Rows stay whole. 1.0 means that no place is left over.
    """
    some = [min(int(n), max_length) for n in lengths[:: -(-len(lengths) // NUM_PACKED)]]
    return sum(some) / (num_packed_rows(some, max_length) * max_length)


def num_packed_rows(lengths: Sequence[int], max_length: int) -> int:
    """How many rows of `max_length` hold all: each goes, longest first, where it fits tightest.

    The tightest place is as good as the first one (best-fit and first-fit decreasing share their
    bound of 11/9 of the fewest rows + 6/9), and is found by bisection.
    """
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = bisect.bisect_left(rooms, length)
        room = rooms.pop(place) if place < len(rooms) else max_length
        bisect.insort(rooms, room - length)
    return len(rooms)
