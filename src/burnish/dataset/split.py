"""Which conversations are held out, decided by their content alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

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
    question whose hash is nearest, training first; with fewer questions than splits, the
    validation split stays empty first.
    """
    places = [place(conversation, section.seed) for conversation in conversations]
    names = [_split_at(value, section) for value in places]
    held_out = (
        ("test", section.test_size, 0.0),
        ("validation", section.validation_size, section.test_size),
    )
    if places and "train" not in names:
        names = _moved(places, names, max(places), "train")
    for name, share, target in held_out:
        spare = {value for value, n in zip(places, names, strict=True) if n == "train"}
        if share > 0 and name not in names and len(spare) > 1:
            names = _moved(places, names, _nearest(spare, target), name)
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    for conversation, name in zip(conversations, names, strict=True):
        splits[name].append(conversation)
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


def _moved(places: Sequence[float], names: Sequence[str], chosen: float, to: str) -> list[str]:
    return [to if value == chosen else name for value, name in zip(places, names, strict=True)]


def _nearest(places: Iterable[float], target: float) -> float:
    return min(places, key=lambda value: abs(value - target))
