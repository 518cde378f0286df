"""The lengths of the rows that will be trained on: as prepared, or rendered from cleaned ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.conversation import IGNORE_INDEX, Conversation
from burnish.errors import BurnishError, DataError
from burnish.planning.batches import Ints
from burnish.recipe import PrepareSection
from burnish.rendering import render_example
from burnish.run_dir import RunDir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_RENDERED = 2_000
"""So many conversations are rendered for an estimate; of more, as many, evenly spread."""

CHARS_PER_TOKEN = {"ascii": 4.0, "other": 1.2}
"""For a model whose tokenizer is not at hand."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows before anything is cut: an entry for each in the arrays.

    Attributes:
        lengths: tokens of training rows.
        supervised: how many of them carry loss.
        held_lengths: tokens of validation rows.
        held_supervised: likewise.
        source: where the figures come from, in words.
        estimated: whether they stand for rows that were not looked at or not tokenized.
    """

    lengths: Ints
    supervised: Ints
    held_lengths: Ints
    held_supervised: Ints
    source: str
    estimated: bool


def cut(lengths: Ints, supervised: Ints, section: PrepareSection) -> tuple[Ints, Ints, int]:
    """Rows as prepare leaves them: lengths, supervised tokens, and how many answers were cut.

    The end of a row is its answer, so what is cut is supervised. A row without an answer left, or
    any that is too long where the recipe says so, is gone.
    """
    excess = np.maximum(lengths - section.max_length, 0)
    left = np.maximum(supervised - excess, 0)
    kept = left > 0 if section.too_long == "cut" else excess == 0
    return (lengths - excess)[kept], left[kept], int((excess[kept] > 0).sum())


def prepared_rows(run: RunDir) -> Rows:
    """The rows of a run's prepare stage, with the lengths that they had before they were cut."""
    from datasets import load_from_disk

    train, held = (_measured(load_from_disk(str(run.split(n)))) for n in ("train", "validation"))
    return Rows(*train, *held, source="the rows that prepare made", estimated=False)


def _measured(split: Any) -> tuple[Ints, Ints]:
    labels = split["labels"]
    lost = np.array(split["num_cut"], dtype=np.int64)
    lengths = np.array([len(row) for row in labels], dtype=np.int64)
    supervised = [sum(label != IGNORE_INDEX for label in row) for row in labels]
    return lengths + lost, np.array(supervised, dtype=np.int64) + lost


def rendered_rows(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase | None,
    section: PrepareSection,
) -> Rows:
    """An estimate from cleaned conversations: some are rendered and stand for all.

    Raises:
        DataError: there is no conversation, or none can be rendered.
    """
    step = -(-len(conversations) // MOST_RENDERED) or 1
    picked = [c.trained_on(section.train_on) for c in conversations[::step]]
    pairs = [pair for c in picked if (pair := _size(c, tokenizer)) is not None]
    if not pairs:
        raise DataError(
            "plan",
            "there is no conversation that can be rendered.",
            "Run burnish clean to see why.",
        )
    lengths, supervised = np.array(pairs, dtype=np.int64).T
    number = round(len(conversations) * len(pairs) / len(picked))
    num_held = round(number * section.validation_size)
    num_train = max(number - num_held - round(number * section.test_size), 1)
    how = "rendered" if tokenizer else "measured in characters, for want of a tokenizer,"
    return Rows(
        np.resize(lengths, num_train),
        np.resize(supervised, num_train),
        np.resize(lengths, num_held),
        np.resize(supervised, num_held),
        source=f"an estimate: {len(picked):,} of {len(conversations):,} cleaned rows were {how}",
        estimated=True,
    )


def _size(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[int, int] | None:
    """Tokens and supervised tokens of a conversation, or None where it can't be rendered."""
    if tokenizer is None:
        sizes = [_guess(m.content + m.input) for m in conversation.messages]
        answers = [
            size
            for size, m in zip(sizes, conversation.messages, strict=True)
            if m.role == "assistant"
        ]
        return sum(sizes), max(sum(answers), 1)
    try:
        example = render_example(conversation, tokenizer, sys.maxsize)
    except BurnishError:
        return None
    return len(example.input_ids), example.num_supervised


def _guess(text: str) -> int:
    plain = sum(character.isascii() for character in text)
    other = (len(text) - plain) / CHARS_PER_TOKEN["other"]
    return round(plain / CHARS_PER_TOKEN["ascii"] + other) + 5
