"""Which examples a page shows: the longest, the shortest, the most cut, faulty ones, any others."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.conversation import IGNORE_INDEX
from burnish.labels.rows import Ints, origin_of, place_of
from burnish.labels.tally import Tally

NUM_SHOWN = 20
NUM_OF_A_KIND = 4
MOST_TOKENS = 2_000
"""So many tokens of an example are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An example and why it is shown.

    Attributes:
        why: such as "longest".
        origin: where it comes from.
        input_ids: its tokens, the first ones of a long example.
        labels: their labels.
        num_tokens: how many there are in all.
        num_supervised: how many carry loss.
        num_cut: how many were cut off.
    """

    why: str
    origin: str
    input_ids: list[int]
    labels: list[int]
    num_tokens: int
    num_supervised: int
    num_cut: int

    def as_report(self, *, with_ids: bool) -> dict[str, Any]:
        """What a command prints of it."""
        report: dict[str, Any] = {
            "why": self.why,
            "origin": self.origin,
            "num_tokens": self.num_tokens,
            "num_supervised": self.num_supervised,
            "num_cut": self.num_cut,
        }
        if with_ids:
            report |= {"input_ids": self.input_ids, "labels": self.labels}
        return report


def pick_examples(seen: Tally, splits: Mapping[str, Any]) -> list[Shown]:
    """About twenty examples, the same ones each time."""
    table = seen.table
    reasons: dict[int, str] = {}
    for name, hits in seen.hits.items():
        reasons.setdefault(hits.first[0], name)
    ranked = {"longest": -table.lengths, "shortest": table.lengths}
    if table.num_cut is not None and table.num_cut.any():
        ranked["most cut"] = np.where(table.num_cut > 0, -table.num_cut, 1)
    for why, order in ranked.items():
        for row in _smallest(order, NUM_OF_A_KIND):
            if order[row] <= 0 or why == "shortest":
                reasons.setdefault(int(row), why)
    size = len(table.lengths)
    for row in random.Random(0).sample(range(size), min(NUM_SHOWN, size)):
        if len(reasons) < NUM_SHOWN:
            reasons.setdefault(row, "at random")
    return [_shown(splits, row, why) for row, why in reasons.items()]


def _smallest(values: Ints, count: int) -> Sequence[int]:
    nearest = np.argpartition(values, min(count, len(values) - 1))[:count]
    return list(nearest[np.argsort(values[nearest], kind="stable")])


def _shown(splits: Mapping[str, Any], row: int, why: str) -> Shown:
    name, at = place_of(splits, row)
    values = splits[name][at]
    ids, labels = list(values["input_ids"] or ()), list(values["labels"] or ())
    return Shown(
        why=why,
        origin=origin_of(splits, row),
        input_ids=ids[:MOST_TOKENS],
        labels=labels[:MOST_TOKENS],
        num_tokens=len(ids),
        num_supervised=sum(label != IGNORE_INDEX for label in labels),
        num_cut=values.get("num_cut") or 0,
    )
