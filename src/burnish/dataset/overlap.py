"""Training rows that share much text with held-out ones, so that a score would flatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from burnish.contamination.index import build_index
from burnish.contamination.overlaps import find_overlaps, held_out_items, text_of
from burnish.conversation import Conversation, Rejection

NGRAM = 13
"""So many words in a row begin an overlap; a Chinese character is a word."""

MIN_SHARE = 0.5
"""Less of a held-out row's words than that are turns of phrase that a subject has in common."""


def find_train_overlaps(splits: Mapping[str, Sequence[Conversation]]) -> dict[str, dict[str, Any]]:
    """What training rows share with held-out ones, by the training row's origin."""
    held_out = [name for name in splits if name != "train"]
    items = [item for name in held_out for item in held_out_items(splits[name], name)]
    if not items or not splits["train"]:
        return {}
    index = build_index(items, NGRAM, halves=False)
    found = find_overlaps([text_of(c) for c in splits["train"]], index)
    overlaps = {}
    for conversation, overlap in zip(splits["train"], found, strict=True):
        if overlap is not None and overlap.share >= MIN_SHARE:
            values = asdict(overlap)
            overlaps[conversation.origin] = {
                "origin": conversation.origin,
                "split": values.pop("benchmark"),
                "held_out": values.pop("item"),
                **values,
            }
    return overlaps


def overlap_rejection(conversation: Conversation, overlap: Mapping[str, Any]) -> Rejection:
    """The rejection of a training row for what it shares with a held-out one."""
    reason = (
        f"it shares {overlap['share']:.0%} of the words of {overlap['held_out']}, which is held "
        f"out ({overlap['split']})."
    )
    return Rejection(conversation.origin, "overlap", reason, conversation.answer)
