"""Rows that repeat another one: how many, and the first pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NUM_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """A row, the one that it repeats, and how alike they are (1 for equal rows)."""

    origin: str
    repeats: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Repeats:
    """How many rows repeat another one, and the first of them."""

    count: int
    pairs: tuple[Pair, ...]


def find_repeats(ledger: Path) -> dict[str, Repeats]:
    """Rows that are equal to another one after cleaning (`exact`), and that are nearly so (`near`).

    Rows that a rule rejects count among the equal ones, and only there.
    """
    counts = {"exact": 0, "near": 0}
    pairs: dict[str, list[Pair]] = {"exact": [], "near": []}
    with ledger.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if "repeats" not in row:
                continue
            kind = "exact" if "duplicate" in row["faults"] else "near"
            counts[kind] += 1
            if len(pairs[kind]) < NUM_PAIRS:
                pairs[kind].append(Pair(row["origin"], row["repeats"], row["similarity"]))
    return {kind: Repeats(counts[kind], tuple(pairs[kind])) for kind in counts}


def origins_of(repeats: Mapping[str, Repeats]) -> set[str]:
    """The origins of all rows in the pairs."""
    pairs = [pair for found in repeats.values() for pair in found.pairs]
    return {pair.origin for pair in pairs} | {pair.repeats for pair in pairs}
