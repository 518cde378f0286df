"""Which conversations are held out, decided group by group, so that no near-copy is on two sides.

A row's groups are named by cleaning: its near-duplicates, the rows with its question and the rows
with its value of the column to group by. Where a group goes follows from its name and the seed, so
rows added behind the others do not move them. One exception keeps the shares: a held-out group that
outgrows its split goes to training, whole. Rows are counted as they come, and a group has outgrown
its split as soon as, at one of its rows,

- it has MIN_LARGE rows, and more than LARGE_SHARE of those that its split should have by then,
- and the split is nearer to what it should have without it.

With strata each is counted by itself. So what is trained on is not held out later, however many
rows are added behind; and what is held out stays so unless its own group has grown too large.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from burnish.conversation import Conversation, Rejection
from burnish.progress import warn
from burnish.recipe import PrepareSection

SPLITS = ("train", "validation", "test")

GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, without their whole part, fill [0, 1) as evenly as can be."""

MIN_LARGE = 10
"""A held-out group of fewer rows stays where it is ..."""
LARGE_SHARE = 0.1
"""... and so does one that is no greater share of what its split should have."""

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
    strata = [conversation.stratum for conversation in conversations]
    places = _places(conversations, groups, section.seed)
    split_of = _splits(places, groups, strata, section)
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
    places: Mapping[str, float],
    groups: Sequence[tuple[str, ...]],
    strata: Sequence[str],
    section: PrepareSection,
) -> dict[str, str]:
    """The split of each group. Only one that a row has to itself can fill an empty split."""
    split_of = {name: _split_at(value, section) for name, value in places.items()}
    alone = dict.fromkeys(names[0] for names in groups if len(names) == 1)
    if not alone:
        return dict.fromkeys(split_of, "train")
    outgrown = _outgrown(split_of, groups, strata, section)
    split_of |= dict.fromkeys(outgrown, "train")
    wanted = [("train", 1.0)]
    wanted += [("test", 0.0)] if section.test_size else []
    wanted += [("validation", section.test_size)] if section.validation_size else []
    for split, target in wanted:
        sizes = Counter(split_of[name] for name in alone)
        largest = max(SPLITS, key=lambda each: sizes[each])
        if not sizes[split] and (sizes[largest] > 1 or split == "train"):
            spare = [name for name in alone if split_of[name] == largest]
            spare = [name for name in spare if name not in outgrown] or spare
            split_of[min(spare, key=lambda name: abs(places[name] - target))] = split
    return split_of


def _outgrown(
    split_of: Mapping[str, str],
    groups: Sequence[tuple[str, ...]],
    strata: Sequence[str],
    section: PrepareSection,
) -> set[str]:
    """The held-out groups that outgrow their split; a row counts for its first group."""
    shares = {"validation": section.validation_size, "test": section.test_size}
    num_held: dict[str, Counter[str]] = {split: Counter() for split in shares}
    num_seen: Counter[str] = Counter()
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    outgrown: set[str] = set()
    for (name, *_), stratum in zip(groups, strata, strict=True):
        num_seen[stratum] += 1
        split = split_of[name]
        if split == "train" or name in outgrown:
            continue
        sizes[name][stratum] += 1
        num_held[split][stratum] += 1
        wanted = shares[split] * num_seen[stratum]
        if _outgrows(sizes[name][stratum], num_held[split][stratum], wanted):
            outgrown.add(name)
            num_held[split].subtract(sizes.pop(name))
    return outgrown


def _outgrows(num_rows: int, num_held: int, wanted: float) -> bool:
    """Whether a group is large for its split, and the split nearer to its share without it."""
    is_large = num_rows >= MIN_LARGE and num_rows > LARGE_SHARE * wanted
    return is_large and num_held - num_rows / 2 > wanted


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
