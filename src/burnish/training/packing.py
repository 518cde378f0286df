"""Examples -> rows without padding: whole records one behind the other, first fit decreasing.

A row holds at most train.row_length tokens; a record that is longer is never split. Records
that begin with the same tokens (a system prompt, a long instruction) share them: the prefix stands
once in a row, and each record's own tokens see it. That changes no result, for the hidden states
of a prefix do not depend on what comes behind.

Source: first fit decreasing, Johnson 1973, "Near-optimal bin packing algorithms".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from burnish.conversation import IGNORE_INDEX
from burnish.training.llama.attention import Segment

Ids = Sequence[int]

MIN_PREFIX = 8
"""Shorter beginnings are not worth sharing."""


@dataclass(frozen=True, slots=True)
class Row:
    """Records one behind the other, T tokens, as a forward pass takes them.

    Attributes:
        input_ids: [T].
        position_ids: [T], each record's own, from 0.
        segments: which tokens see one another.
        predictors: [n] positions whose next token carries loss.
        targets: [n] those tokens.
        num_tokens: of all records, shared ones counted as often as they are used.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: tuple[Segment, ...]
    predictors: Tensor
    targets: Tensor
    num_tokens: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device) -> Row:
        """The row on a device."""
        parts = (self.input_ids, self.position_ids, self.predictors, self.targets)
        ids, positions, predictors, targets = (p.to(device, non_blocking=True) for p in parts)
        return Row(ids, positions, self.segments, predictors, targets, self.num_tokens)


@dataclass(slots=True)
class _Bin:
    free: int
    records: dict[int, list[int]] = field(default_factory=dict)  # group -> records


@dataclass(frozen=True, slots=True)
class _Group:
    """Records that begin with the same `prefix` tokens."""

    prefix: int
    records: tuple[int, ...]


def pack(records: Sequence[tuple[Ids, Ids]], row_length: int, *, share_prefixes: bool) -> list[Row]:
    """Rows of at most `row_length` tokens that hold all records of (input_ids, labels).

    A record that is longer has a row of its own.
    """
    groups = _groups(records) if share_prefixes else _alone(range(len(records)))
    cost = {r: (len(records[r][0]), g) for g, group in enumerate(groups) for r in group.records}
    bins: list[_Bin] = []
    for record in sorted(cost, key=lambda r: (-cost[r][0], r)):
        length, group = cost[record]
        shared = groups[group].prefix
        for place in bins:
            needed = length - shared if group in place.records else length
            if needed <= place.free:
                break
        else:
            place, needed = _Bin(max(row_length, length)), length
            bins.append(place)
        place.free -= needed
        place.records.setdefault(group, []).append(record)
    return [_row(records, groups, place) for place in bins]


def _alone(records: Iterable[int]) -> list[_Group]:
    return [_Group(0, (record,)) for record in records]


def _groups(records: Sequence[tuple[Ids, Ids]]) -> list[_Group]:
    """Records by their first tokens, each group with all that its records have in common."""
    by_start: dict[tuple[int, ...], list[int]] = {}
    single = []
    for index, (ids, labels) in enumerate(records):
        if _sharable(labels) < MIN_PREFIX:
            single.append(index)
        else:
            by_start.setdefault(tuple(ids[:MIN_PREFIX]), []).append(index)
    groups = _alone(single)
    for members in by_start.values():
        if len(members) == 1:
            groups += _alone(members)
        else:
            groups.append(_Group(_common(records, members), tuple(members)))
    return groups


def _sharable(labels: Ids) -> int:
    """How many tokens stand before the first that predicts a supervised one."""
    first = next((i for i, label in enumerate(labels) if label != IGNORE_INDEX), len(labels))
    return max(first - 1, 0)


def _common(records: Sequence[tuple[Ids, Ids]], members: Sequence[int]) -> int:
    first = records[members[0]][0]
    length = min(_sharable(records[m][1]) for m in members)
    for member in members[1:]:
        ids = records[member][0]
        length = next((i for i in range(length) if ids[i] != first[i]), length)
    return length


def _row(records: Sequence[tuple[Ids, Ids]], groups: Sequence[_Group], place: _Bin) -> Row:
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    predictors: list[int] = []
    targets: list[int] = []
    for group, members in place.records.items():
        prefix = groups[group].prefix if len(members) > 1 else 0
        begin = len(ids)
        if prefix:
            ids += records[members[0]][0][:prefix]
            positions += range(prefix)
            segments.append(Segment(begin, begin + prefix))
        for member in members:
            own, labels = records[member]
            shift = len(ids) - prefix
            segments.append(Segment(len(ids), shift + len(own), begin, begin + prefix))
            ids += own[prefix:]
            positions += range(prefix, len(own))
            learned = [i for i in range(1, len(own)) if labels[i] != IGNORE_INDEX]
            predictors += [shift + i - 1 for i in learned]
            targets += [labels[i] for i in learned]
    tensors = [torch.tensor(v, dtype=torch.long) for v in (ids, positions, predictors, targets)]
    num_tokens = sum(len(records[m][0]) for members in place.records.values() for m in members)
    return Row(tensors[0], tensors[1], tuple(segments), tensors[2], tensors[3], num_tokens)
