"""Which conversations are held out, decided group by group, so that no near-copy is on two sides.

A row's groups are named by cleaning: its near-duplicates, the rows with its question and the rows
with its value of the column to group by. Where a group goes follows from its name and the seed, so
rows added behind the others do not move them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from burnish.conversation import Conversation, Rejection
from burnish.recipe import PrepareSection

SPLITS = ("train", "validation", "test")

GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, without their whole part, fill [0, 1) as evenly as can be."""


def assign_splits(
    conversations: Sequence[Conversation], section: PrepareSection
) -> tuple[dict[str, list[Conversation]], list[Rejection]]:
    """The conversations of each split, in their order, and those that fit in none.

    A conversation that belongs to groups of two splits fits in none: on either side it would leak
    to the other. The shares are met on average; with strata closely in each of them. A split that
    would come out empty though it has a share takes the group of the largest one that is nearest;
    with fewer groups than splits, training comes first.
    """
    groups = [groups_of(conversation) for conversation in conversations]
    places = _places(conversations, groups, section.seed)
    split_of = _splits(places.values(), section)
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    rejections = []
    for conversation, names in zip(conversations, groups, strict=True):
        found = {split_of[places[name]] for name in names}
        if len(found) == 1:
            splits[found.pop()].append(conversation)
        else:
            rejections.append(_between(conversation, found))
    return splits, rejections


def groups_of(conversation: Conversation) -> tuple[str, ...]:
    """The groups that cleaning named; of data from elsewhere the first question makes one."""
    if conversation.groups:
        return conversation.groups
    first = next((m for m in conversation.messages if m.role == "user"), conversation.messages[0])
    return (f"{''.join(first.content.split())}\x1f{''.join(first.input.split())}",)


def place(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on a name and the seed alone."""
    text = f"{seed}\x1f{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) / 2**64


def _places(
    conversations: Sequence[Conversation], groups: Sequence[tuple[str, ...]], seed: int
) -> dict[str, float]:
    """A number in [0, 1) for each group: by its name, or evenly spread within its stratum."""
    places: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for conversation, names in zip(conversations, groups, strict=True):
        for name in names:
            if name in places:
                continue
            stratum = conversation.stratum
            if not stratum:
                places[name] = place(name, seed)
                continue
            places[name] = (place(stratum, seed) + counts[stratum] * GOLDEN) % 1.0
            counts[stratum] += 1
    return places


def _splits(places: Iterable[float], section: PrepareSection) -> dict[float, str]:
    split_of = {value: _split_at(value, section) for value in places}
    wanted = [("train", 1.0)]
    wanted += [("test", 0.0)] if section.test_size else []
    wanted += [("validation", section.test_size)] if section.validation_size else []
    for name, target in wanted:
        if split_of and name not in split_of.values():
            _fill(split_of, name, target)
    return split_of


def _split_at(value: float, section: PrepareSection) -> str:
    if value < section.test_size:
        return "test"
    if value < section.test_size + section.validation_size:
        return "validation"
    return "train"


def _fill(split_of: dict[float, str], name: str, target: float) -> None:
    """Moves the group nearest to `target` from the largest split to an empty one."""
    sizes = Counter(split_of.values())
    largest = max(SPLITS, key=lambda split: sizes[split])
    if sizes[largest] > 1 or name == "train":
        spare = [value for value, split in split_of.items() if split == largest]
        split_of[min(spare, key=lambda value: abs(value - target))] = name


def _between(conversation: Conversation, found: set[str]) -> Rejection:
    names = " and ".join(name for name in SPLITS if name in found)
    return Rejection(
        conversation.origin,
        "between_splits",
        f"it is near rows of {names}, so on either side it would leak to the other.",
        conversation.answer,
    )


def copies(conversation: Conversation, seed: int, *, held_out: bool) -> int:
    """How often a row is taken: its weight, with the rest decided by its content."""
    text = "\x1f".join(f"{m.role}\x1e{m.content}\x1e{m.input}" for m in conversation.messages)
    whole, rest = divmod(conversation.weight, 1.0)
    taken = int(whole) + (place(text, seed) < rest)
    return min(taken, 1) if held_out else taken
