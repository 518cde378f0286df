"""Examples -> rows without padding: whole records one behind the other, first fit decreasing.

A row holds at most train.row_length tokens; a record that is longer is never split. Records
that begin with the same tokens (a system prompt, a long instruction) share them: the prefix stands
once in a row, and each record's own tokens see it. That changes no result, for the hidden states
of a prefix do not depend on what comes behind.

Source: first fit decreasing, Johnson 1973, "Near-optimal bin packing algorithms".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.conversation import IGNORE_INDEX
from burnish.training.llama.attention import Segment

Ids = Sequence[int]

Record = tuple[Ids, Ids]
"""Input ids and labels."""

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
        return self._with(lambda part: part.to(device, non_blocking=True))

    def pinned(self) -> Row:
        """The row in memory that a GPU reads by itself, while the processor goes on."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Row:
        """The row with each of its tensors changed."""
        return replace(
            self,
            input_ids=change(self.input_ids),
            position_ids=change(self.position_ids),
            predictors=change(self.predictors),
            targets=change(self.targets),
        )


def pad_row(row: Row, multiple: int) -> Row:
    """The row with tokens behind it that nothing sees and no loss knows, up to a whole multiple.

    They make a segment of their own. All their positions are 0: a model may know no position that
    is higher than its longest record's.
    """
    missing = -len(row) % multiple
    if not missing:
        return row
    padding = row.input_ids.new_zeros(missing)
    return replace(
        row,
        input_ids=torch.cat([row.input_ids, padding]),
        position_ids=torch.cat([row.position_ids, padding]),
        segments=(*row.segments, Segment(len(row), len(row) + missing)),
    )


class _Bins:
    """Bins with free room, and the first of them that has enough, found in log time.

    `_most[node]` is the most room below a node of a binary tree whose leaves are the bins; bins
    that are not in use yet have all of `size`.
    """

    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self._leaves = 1 << max(count - 1, 0).bit_length()
        self._most = [size] * (2 * self._leaves)
        self.contents: list[dict[int, list[int]]] = []  # of each bin, group -> records

    def free(self, bin_: int) -> int:
        return self._most[self._leaves + bin_]

    def first_with(self, room: int) -> int:
        """The first bin with so much room; of a record that is longer than any, a new one."""
        if room > self._size:
            return len(self.contents)
        node = 1
        while node < self._leaves:
            node = 2 * node if self._most[2 * node] >= room else 2 * node + 1
        return node - self._leaves

    def put(self, record: int, group: int, room: int, bin_: int) -> None:
        while bin_ >= len(self.contents):
            self.contents.append({})
        self.contents[bin_].setdefault(group, []).append(record)
        node = self._leaves + bin_
        self._most[node] = max(self._most[node] - room, 0)
        while node > 1:
            node //= 2
            self._most[node] = max(self._most[2 * node], self._most[2 * node + 1])


@dataclass(frozen=True, slots=True)
class _Group:
    """Records that begin with the same `prefix` tokens."""

    prefix: int
    records: tuple[int, ...]


def pack(records: Sequence[Record], row_length: int, *, share_prefixes: bool) -> list[Row]:
    """Rows of at most `row_length` tokens that hold all records of (input_ids, labels).

    A record that is longer has a row of its own.
    """
    groups = _groups(records) if share_prefixes else _alone(range(len(records)))
    cost = {r: (len(records[r][0]), g) for g, group in enumerate(groups) for r in group.records}
    bins = _Bins(row_length, len(records))
    homes: dict[int, set[int]] = {}  # group -> the bins that hold some of it
    for record in sorted(cost, key=lambda r: (-cost[r][0], r)):
        length, group = cost[record]
        own = length - groups[group].prefix
        home = homes.setdefault(group, set())
        place = bins.first_with(own)
        if place not in home:
            shared = (b for b in home if bins.free(b) >= own)
            place = min([bins.first_with(length), *shared])
        bins.put(record, group, own if place in home else length, place)
        home.add(place)
    return [_row(records, groups, content) for content in bins.contents]


def _alone(records: Iterable[int]) -> list[_Group]:
    return [_Group(0, (record,)) for record in records]


def _groups(records: Sequence[Record]) -> list[_Group]:
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


def _common(records: Sequence[Record], members: Sequence[int]) -> int:
    first = records[members[0]][0]
    length = min(_sharable(records[m][1]) for m in members)
    for member in members[1:]:
        ids = records[member][0]
        length = next((i for i in range(length) if ids[i] != first[i]), length)
    return length


def _row(records: Sequence[Record], groups: Sequence[_Group], content: dict[int, list[int]]) -> Row:
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    predictors: list[int] = []
    targets: list[int] = []
    for group, members in content.items():
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
    num_tokens = sum(len(records[m][0]) for members in content.values() for m in members)
    return Row(tensors[0], tensors[1], tuple(segments), tensors[2], tensors[3], num_tokens)
