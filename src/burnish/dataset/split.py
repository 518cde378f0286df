"""Which conversations are held out, decided group by group, so that no near-copy is on two sides.

A row's groups are named by cleaning: its near-duplicates, the rows with its question and the rows
with its value of the column to group by. Where a group goes follows from its name and the seed, so
rows added behind the others do not move them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from burnish.conversation import Conversation, Rejection
from burnish.progress import warn
from burnish.recipe import PrepareSection

SPLITS = ("train", "validation", "test")

GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, without their whole part, fill [0, 1) as evenly as can be."""

MAX_LOST = 0.01
"""With a greater share of rows near two splits a warning is due."""

_NUMBERED = re.compile(r"[0-9a-f]{16}/(?P<number>\d+)/(?P<stratum>.+)", re.DOTALL)


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
    split_of = _splits(_places(conversations, groups, section.seed), groups, section)
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    rejections = []
    for conversation, names in zip(conversations, groups, strict=True):
        found = {split_of[name] for name in names}
        if len(found) == 1:
            splits[found.pop()].append(conversation)
        else:
            rejections.append(_between(conversation, found))
    if len(rejections) > MAX_LOST * len(conversations):
        _warn_of_lost(len(rejections), len(conversations))
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
    """A number in [0, 1) for each group: by its name, or evenly spread within its stratum.

    Cleaning wrote the stratum and the group's number there into the name. Of other data groups are
    numbered as they come.
    """
    places: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for conversation, names in zip(conversations, groups, strict=True):
        for name in names:
            if name in places:
                continue
            stratum, number = conversation.stratum, counts[conversation.stratum]
            if numbered := _NUMBERED.fullmatch(name):
                stratum, number = numbered["stratum"], int(numbered["number"])
            elif stratum:
                counts[stratum] += 1
            spread = (place(stratum, seed) + number * GOLDEN) % 1.0
            places[name] = spread if stratum else place(name, seed)
    return places


def _splits(
    places: Mapping[str, float], groups: Sequence[tuple[str, ...]], section: PrepareSection
) -> dict[str, str]:
    """The split of each group. Only one that a row has to itself can fill an empty split."""
    split_of = {name: _split_at(value, section) for name, value in places.items()}
    alone = dict.fromkeys(names[0] for names in groups if len(names) == 1)
    if not alone:
        return dict.fromkeys(split_of, "train")
    wanted = [("train", 1.0)]
    wanted += [("test", 0.0)] if section.test_size else []
    wanted += [("validation", section.test_size)] if section.validation_size else []
    for split, target in wanted:
        sizes = Counter(split_of[name] for name in alone)
        largest = max(SPLITS, key=lambda each: sizes[each])
        if not sizes[split] and (sizes[largest] > 1 or split == "train"):
            spare = [name for name in alone if split_of[name] == largest]
            split_of[min(spare, key=lambda name: abs(places[name] - target))] = split
    return split_of


def _split_at(value: float, section: PrepareSection) -> str:
    if value < section.test_size:
        return "test"
    if value < section.test_size + section.validation_size:
        return "validation"
    return "train"


def _warn_of_lost(num_lost: int, num_all: int) -> None:
    warn(
        f"{num_lost:,} of {num_all:,} rows are near rows of two splits and are left out "
        "(between_splits in 2-prepare/rejected.jsonl). Fewer are with smaller "
        "prepare.validation_size and test_size, with one row per question "
        "(clean.duplicate_key: question), or without group_by where its values share questions"
    )


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
