"""Shows an example as a model sees it: token by token, what carries loss in colour."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from rich.text import Text

from burnish.conversation import IGNORE_INDEX, Conversation, Example
from burnish.dataset.prepare import read_conversations
from burnish.errors import DataError
from burnish.models.names import find_model
from burnish.recipe import ModelSection, PrepareSection
from burnish.rendering import load_tokenizer, render_example
from burnish.run_dir import RunDir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED = "black on green"
CONTEXT = "dim"


def preview(
    model: ModelSection, section: PrepareSection, run: RunDir, *, row: int | None
) -> tuple[Example, Text]:
    """One cleaned conversation rendered anew, and its tokens coloured.

    Args:
        model: where the tokenizer comes from.
        section: max_length, and the seed that picks a row at random.
        run: the run whose conversations.jsonl is read.
        row: which conversation, from 1; None picks one at random.

    Raises:
        DataError: there is no such row, or it can't be rendered.
    """
    conversations = list(read_conversations(run.conversations))
    conversation = _choose(conversations, row, section.seed)
    tokenizer = load_tokenizer(find_model(model), model)
    example = render_example(conversation, tokenizer, section.max_length)
    return example, coloured(example, tokenizer)


def coloured(example: Example, tokenizer: PreTrainedTokenizerBase) -> Text:
    """The example's text; supervised tokens stand out, and a stop token shows as it is called."""
    text = Text()
    for supervised, ids in _runs(example):
        text.append(tokenizer.decode(ids), style=TRAINED if supervised else CONTEXT)
    return text


def _runs(example: Example) -> list[tuple[bool, list[int]]]:
    """Neighbouring tokens with the same fate, so that characters of several tokens stay whole."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        supervised = label != IGNORE_INDEX
        if not runs or runs[-1][0] != supervised:
            runs.append((supervised, []))
        runs[-1][1].append(token)
    return runs


def _choose(conversations: list[Conversation], row: int | None, seed: int) -> Conversation:
    if row is None:
        return random.Random(seed).choice(conversations)
    if not 1 <= row <= len(conversations):
        raise DataError(
            "--row",
            f"there is no row {row}; cleaning kept {len(conversations)}.",
            f"Choose a number from 1 to {len(conversations)}.",
        )
    return conversations[row - 1]
