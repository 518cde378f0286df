"""What comparing the rows with one another says: which repeat others, which belong together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.cleaning.duplicates import assign_groups, find_duplicates, find_exact, parts_of
from burnish.cleaning.likeness import Likeness
from burnish.cleaning.parts import Parts
from burnish.cleaning.row import Table
from burnish.contamination.overlaps import Overlap, without_terms
from burnish.conversation import Conversation
from burnish.progress import track
from burnish.recipe import CleanSection


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What comparing the rows with one another says, whatever is dropped for it; an entry a row.

    Attributes:
        copy_of: the first row that is equal to this later one, or -1.
        equal_to: the same among the rows that no rule rejects.
        near_to: the better row that this one is nearly equal to, or -1.
        similarity: how near that is (Jaccard).
        groups: the rows that founded the groups of this one, for the split.
        leaks: what rows share with benchmark items, by the row's number.
    """

    copy_of: NDArray[np.int64]
    equal_to: NDArray[np.int64]
    near_to: NDArray[np.int64]
    similarity: NDArray[np.float32]
    groups: Sequence[tuple[int, ...]]
    leaks: Mapping[int, Overlap]


class GroupNames:
    """The names of groups, as rows pass by in order: a hash of the row that founded each.

    In a stratum a name says, too, how many groups were founded there before: `hash/3/cardiology`.
    Strata are filled by that number, and it is the same whether or not the founder is kept.
    """

    def __init__(self, keys: NDArray[np.uint8]) -> None:
        self._keys = keys
        self._names: dict[int, str] = {}
        self._num_founded: Counter[str] = Counter()

    def of(self, row: int, founders: Sequence[int], conversation: str) -> list[str]:
        """The names of a row's groups; to be asked of every row, kept or not.

        Args:
            row: its number.
            founders: the rows that founded its groups, itself or earlier ones.
            conversation: its JSON.
        """
        # Most data has no strata: then no JSON need be read.
        if row in founders and '"stratum": "' in conversation:
            stratum = json.loads(conversation).get("stratum", "")
            self._names[row] = f"{self._hash(row)}/{self._num_founded[stratum]}/{stratum}"
            self._num_founded[stratum] += 1
        return [self._names.get(founder) or self._hash(founder) for founder in founders]

    def _hash(self, row: int) -> str:
        return self._keys[row, :8].tobytes().hex()


def find_leaks(parts: Parts) -> dict[int, Overlap]:
    """What rows share with benchmark items, by the row's number; terms of a subject are none."""
    found = {row: Overlap(**r.overlap) for row, r in enumerate(parts.results()) if r.overlap}
    kept = without_terms(list(found.values()))
    return {row: overlap for row, overlap in zip(found, kept, strict=True) if overlap}


def is_dropped(leak: Overlap, section: CleanSection) -> bool:
    """Whether a row goes for what it shares with a benchmark item."""
    drop = section.contamination.drop
    return drop == "all" or (drop == "sure" and leak.is_sure)


def compare(
    table: Table, parts: Parts, section: CleanSection, leaks: Mapping[int, Overlap]
) -> Verdicts:
    """Which rows repeat others, and which belong together."""
    copy_of = np.full(len(table), -1, dtype=np.int64)
    rows = np.flatnonzero(table.keys.any(axis=1))
    first = find_exact(table.keys[rows])
    later = np.flatnonzero(first != np.arange(len(rows)))
    copy_of[rows[later]] = rows[first[later]]

    alive = np.flatnonzero(table.alive)
    like = Likeness(
        lambda row: parts_of(_conversation(parts, int(alive[row])), section.duplicate_key),
        section.near_duplicate_threshold,
    )
    found = find_duplicates(
        table.keys[alive],
        table.signatures[alive],
        table.quality[alive],
        like,
        hints=[table.questions[alive], table.answers[alive]],
        progress=track,
    )
    equal_to = np.full(len(table), -1, dtype=np.int64)
    near_to = np.full(len(table), -1, dtype=np.int64)
    similarity = np.zeros(len(table), dtype=np.float32)
    is_copy = found.first != np.arange(len(alive))
    equal_to[alive[is_copy]] = alive[found.first[is_copy]]
    near = found.kept_instead[found.first]
    is_near = near >= 0
    near_to[alive[is_near]] = alive[near[is_near]]
    similarity[alive] = found.similarity[found.first]
    # Near rows that are kept stand on one side; so do equal questions and columns.
    linked = np.concatenate([found.pairs, found.akin])
    belong = [found.first, table.questions[alive], table.columns[alive]]
    groups: list[tuple[int, ...]] = [()] * len(table)
    for row, founders in enumerate(assign_groups(len(alive), linked, belong)):
        groups[alive[row]] = tuple(int(alive[founder]) for founder in founders)
    return Verdicts(copy_of, equal_to, near_to, similarity, groups, leaks)


def _conversation(parts: Parts, row: int) -> Conversation:
    return Conversation.from_json(parts.result(row).conversation)
