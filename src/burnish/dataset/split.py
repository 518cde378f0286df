"""Which conversations are held out, decided by their content alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from burnish.conversation import Conversation
from burnish.recipe import PrepareSection

SPLITS = ("train", "validation", "test")


def assign_splits(
    conversations: Sequence[Conversation], section: PrepareSection
) -> dict[str, list[Conversation]]:
    """The conversations of each split, in their order.

    A conversation's place follows from a hash of its first question and the seed: equal questions
    stay on one side, and rows added later do not move old ones. The shares are therefore met on
    average, not exactly. A split that would come out empty though it has a share takes the
    question of the largest one whose hash is nearest; with fewer questions than splits, training
    comes first.
    """
    places = [place(conversation, section.seed) for conversation in conversations]
    split_of = {value: _split_at(value, section) for value in places}
    wanted = [("train", 1.0)]
    wanted += [("test", 0.0)] if section.test_size else []
    wanted += [("validation", section.test_size)] if section.validation_size else []
    for name, target in wanted:
        if split_of and name not in split_of.values():
            _fill(split_of, name, target)
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    for conversation, value in zip(conversations, places, strict=True):
        splits[split_of[value]].append(conversation)
    return splits


def place(conversation: Conversation, seed: int) -> float:
    """A number in [0, 1) that depends on the first question and the seed alone."""
    first = next((m for m in conversation.messages if m.role == "user"), conversation.messages[0])
    text = f"{seed}\x1f{''.join(first.content.split())}\x1f{''.join(first.input.split())}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def _split_at(value: float, section: PrepareSection) -> str:
    if value < section.test_size:
        return "test"
    if value < section.test_size + section.validation_size:
        return "validation"
    return "train"


def _fill(split_of: dict[float, str], name: str, target: float) -> None:
    """Moves the question nearest to `target` from the largest split to an empty one."""
    sizes = Counter(split_of.values())
    largest = max(SPLITS, key=lambda split: sizes[split])
    if sizes[largest] > 1 or name == "train":
        spare = [value for value, split in split_of.items() if split == largest]
        split_of[min(spare, key=lambda value: abs(value - target))] = name
