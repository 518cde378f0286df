"""The records that will be trained on: as prepared, or rendered from cleaned ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.conversation import IGNORE_INDEX, Conversation, Example
from burnish.errors import DataError
from burnish.labels.rows import batches as flat_batches
from burnish.planning.batches import Ints, Record
from burnish.recipe import PrepareSection
from burnish.rendering import render_row
from burnish.run_dir import RunDir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_LOOKED_AT = 2_000
"""So many records are rendered and packed for an estimate; of more, as many, evenly spread."""

CHARS_PER_TOKEN = {"ascii": 4.0, "other": 1.2}
"""For a model whose tokenizer is not at hand."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Records before anything is cut.

    Attributes:
        lengths: tokens of each training record.
        supervised: how many of them carry loss.
        held_lengths: tokens of each validation record.
        held_supervised: likewise.
        records: training records that stand for all, the longest among them.
        held_records: likewise.
        source: where the figures come from, in words.
        estimated: whether they stand for records that were not looked at or not tokenized.
    """

    lengths: Ints
    supervised: Ints
    held_lengths: Ints
    held_supervised: Ints
    records: Sequence[Record]
    held_records: Sequence[Record]
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


def cut_records(records: Sequence[Record], section: PrepareSection) -> list[Record]:
    """Records as prepare leaves them."""
    length = section.max_length
    if section.too_long == "reject":
        return [record for record in records if len(record[0]) <= length]
    shorter = [(ids[:length], labels[:length]) for ids, labels in records]
    return [(ids, labels) for ids, labels in shorter if _num_supervised(labels)]


def representative(split: Any) -> list[Record]:
    """Rows of a prepared split that stand for all: evenly spread ones, and the longest."""
    return _some_of(split, _sizes(split)[0])


def prepared_rows(run: RunDir) -> Rows:
    """The rows of a run's prepare stage, with the lengths that they had before they were cut."""
    from datasets import load_from_disk

    train, held = (load_from_disk(str(run.split(name))) for name in ("train", "validation"))
    sizes, held_sizes = _sizes(train), _sizes(held)
    return Rows(
        *sizes,
        *held_sizes,
        records=_some_of(train, sizes[0]),
        held_records=_some_of(held, held_sizes[0]),
        source="the rows that prepare made",
        estimated=False,
    )


def _sizes(split: Any) -> tuple[Ints, Ints]:
    """Tokens and supervised tokens of each row, with those that were cut."""
    none = np.empty(0, np.int64)
    lengths: list[Ints] = [none]
    supervised: list[Ints] = [none]
    for batch in flat_batches(split):
        before = np.zeros(len(batch.labels) + 1, np.int64)
        np.cumsum(batch.labels != IGNORE_INDEX, out=before[1:])
        lost: Any = 0 if batch.num_cut is None else batch.num_cut
        lengths.append(batch.lengths + lost)
        supervised.append(before[batch.ends] - before[batch.starts] + lost)
    return np.concatenate(lengths), np.concatenate(supervised)


def _some_of(split: Any, lengths: Ints) -> list[Record]:
    some = split.select(_evenly(lengths)).with_format(None)
    return list(zip(some["input_ids"], some["labels"], strict=True))


def _evenly(lengths: Ints) -> list[int]:
    """Which rows stand for all: evenly spread ones, and the longest."""
    step = -(-len(lengths) // MOST_LOOKED_AT) or 1
    chosen = set(range(0, len(lengths), step))
    return sorted(chosen | {int(lengths.argmax())} if chosen else chosen)


def rendered_rows(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase | None,
    section: PrepareSection,
) -> Rows:
    """An estimate from cleaned conversations: some are rendered and stand for all.

    Raises:
        DataError: there is no conversation, or none can be rendered.
    """
    step = -(-len(conversations) // MOST_LOOKED_AT) or 1
    picked = conversations[::step]
    records = [
        record
        for number, conversation in enumerate(picked)
        for record in _records(conversation, tokenizer, section, number)
    ]
    if not records:
        raise DataError(
            "plan",
            "there is no conversation that can be rendered.",
            "Run burnish clean to see why.",
        )
    lengths = np.array([len(ids) for ids, _ in records], dtype=np.int64)
    supervised = np.array([_num_supervised(labels) for _, labels in records], dtype=np.int64)
    number = round(len(conversations) * len(records) / len(picked))
    num_held = round(number * section.validation_size)
    num_train = max(number - num_held - round(number * section.test_size), 1)
    how = "rendered" if tokenizer else "measured in characters, for want of a tokenizer,"
    return Rows(
        np.resize(lengths, num_train),
        np.resize(supervised, num_train),
        np.resize(lengths, num_held),
        np.resize(supervised, num_held),
        records=records[:num_train],
        held_records=records[:num_held],
        source=f"an estimate: {len(picked):,} of {len(conversations):,} cleaned rows were {how}",
        estimated=True,
    )


def _records(
    conversation: Conversation,
    tokenizer: PreTrainedTokenizerBase | None,
    section: PrepareSection,
    number: int,
) -> list[Record]:
    """Token ids and labels of what a row is learned as; nothing if it can't be rendered."""
    if tokenizer is None:
        return [_guessed(conversation, number)]
    parts = render_row(conversation, tokenizer, sys.maxsize, section.train_on)
    return [(each.input_ids, each.labels) for _, each in parts if isinstance(each, Example)]


def _guessed(conversation: Conversation, number: int) -> Record:
    """A record of about the right size whose ids are like no other's."""
    sizes = [(m.role, _guess(m.content + m.input)) for m in conversation.messages]
    answers = max(sum(size for role, size in sizes if role == "assistant"), 1)
    others = sum(size for _, size in sizes) - answers
    return [number] * (others + answers), [IGNORE_INDEX] * others + [number] * answers


def _guess(text: str) -> int:
    plain = sum(character.isascii() for character in text)
    other = (len(text) - plain) / CHARS_PER_TOKEN["other"]
    return round(plain / CHARS_PER_TOKEN["ascii"] + other) + 5


def _num_supervised(labels: Sequence[int]) -> int:
    return sum(label != IGNORE_INDEX for label in labels)
