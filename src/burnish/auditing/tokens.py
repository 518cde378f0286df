"""Lengths in tokens, of at most 20,000 rows: rendering a million would take hours."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from burnish.auditing.measures import is_picked
from burnish.conversation import Conversation, Example
from burnish.errors import BurnishError
from burnish.models.names import find_model
from burnish.progress import say, warn
from burnish.recipe import ModelSection, PrepareSection
from burnish.rendering import load_tokenizer, render_row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ROWS = 20_000
"""So many rows are rendered; of more, as many, evenly spread."""


class TokenCounter:
    """Counts the tokens of conversations as training will see them, the chat template's included.

    Which answers carry loss, and in how many examples, is as prepare.train_on says.

    Attributes:
        questions: what carries no loss, of each example that was rendered.
        answers: what carries loss.
    """

    def __init__(self, model: ModelSection, section: PrepareSection, num_rows: int) -> None:
        """Loads the tokenizer; a model that can't be had is said aloud, and nothing is counted."""
        self.questions: array[int] = array("q")
        self.answers: array[int] = array("q")
        self._model = model.name_or_path
        self._train_on = section.train_on
        self._num_rows = num_rows
        self._num_seen = 0
        self._num_counted = 0
        self._num_refused = 0
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._problem = ""
        try:
            self._tokenizer = load_tokenizer(find_model(model, weights=False), model)
        except BurnishError as error:
            self._problem = f"{error.where}: {error.problem}"
            warn(f"no lengths in tokens: {self._problem} {error.remedy}".rstrip())
            return
        if num_rows > MOST_ROWS:
            say(f"tokens are counted in {MOST_ROWS:,} of {num_rows:,} rows, evenly spread")

    def add(self, conversation: Conversation) -> None:
        """Counts the tokens of a row, if it is one of those picked."""
        picked = is_picked(self._num_seen, self._num_rows, MOST_ROWS)
        self._num_seen += 1
        if self._tokenizer is None or not picked:
            return
        parts = render_row(conversation, self._tokenizer, sys.maxsize, self._train_on)
        examples = [found for _, found in parts if isinstance(found, Example)]
        self._num_refused += not examples
        self._num_counted += bool(examples)
        for example in examples:
            self.questions.append(len(example.input_ids) - example.num_supervised)
            self.answers.append(example.num_supervised)

    @property
    def described(self) -> str:
        """Whose tokens were counted, in how many rows, or why none were."""
        if self._tokenizer is None:
            return f"not counted, because the tokenizer can't be loaded: {self._problem}"
        text = f"of {self._model}, its chat template included; {self._num_counted:,} rows"
        if len(self.answers) > self._num_counted:
            text += f" as {len(self.answers):,} examples"
        if self._num_rows > MOST_ROWS:
            text += f", evenly spread over {self._num_rows:,}"
        if self._num_refused:
            text += f"; {self._num_refused:,} rows can't be rendered"
        return text
