"""Shows examples as a model sees them: token by token, what carries loss in colour."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.conversation import Conversation, Example
from burnish.dataset.prepare import read_conversations
from burnish.errors import DataError, RecipeError, RunError
from burnish.labels.examples import Shown
from burnish.labels.page import examples_page
from burnish.models.names import find_model
from burnish.progress import say, track
from burnish.recipe import ModelSection, PrepareSection
from burnish.rendering import load_tokenizer, render_row
from burnish.run_dir import RunDir, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ORDERS: dict[str, Callable[[Example], int]] = {
    "longest": lambda example: -_whole_length(example),
    "shortest": lambda example: _whole_length(example),
    "most_cut": lambda example: -example.num_cut,
}
"""What comes first in each order is the smallest."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cleaned rows to show; at random where nothing is said.

    Attributes:
        row: its number, from 1; with a count also those behind it.
        origin: `file:line` of the raw row.
        order: one of ORDERS: all rows are rendered, and the first in that order shown.
        seed: decides which rows are shown at random.
        count: how many.
    """

    row: int | None = None
    origin: str | None = None
    order: str | None = None
    seed: int | None = None
    count: int = 1


def wanted(
    row: int | None, origin: str | None, orders: Sequence[str], seed: int | None, count: int
) -> Wanted:
    """What the options of the command line ask for.

    Raises:
        RecipeError: they ask for several things at once.
    """
    at_random = seed is not None or "random" in orders
    ranked = [order for order in orders if order != "random"]
    if (row is not None) + (origin is not None) + len(ranked) + at_random > 1:
        raise RecipeError(
            "preview",
            "more than one way to choose rows was given.",
            "Give one of --row, --origin, --random (with --seed), --longest, --shortest and "
            "--most-cut.",
        )
    return Wanted(row, origin, ranked[0] if ranked else None, seed, count)


def preview(
    model: ModelSection, section: PrepareSection, run: RunDir, asked: Wanted
) -> tuple[list[Shown], PreTrainedTokenizerBase]:
    """Cleaned conversations rendered anew, and the tokenizer that did.

    Args:
        model: where the tokenizer comes from.
        section: max_length, train_on, and the seed where none is given.
        run: the run whose conversations.jsonl is read.
        asked: which of them.

    Raises:
        DataError: there is no such row, or it can't be rendered.
    """
    read = list(read_conversations(run.conversations))
    tokenizer = load_tokenizer(find_model(model, weights=False), model)
    if asked.order is not None:
        examples = _ranked(read, tokenizer, section, asked)
        why = asked.order.replace("_", " ")
    else:
        chosen = _chosen(read, asked, section.seed)
        examples = [each for c in chosen for each in _rendered(c, tokenizer, section)]
        why = "row" if asked.row or asked.origin else "at random"
    return [_as_shown(example, why) for example in examples], tokenizer


def write_preview(path: Path, shown: Sequence[Shown], tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes the examples as an HTML page.

    Raises:
        RunError: the page can't be written there.
    """
    try:
        write_text(path, examples_page("Preview", shown, tokenizer))
    except OSError as error:
        problem = f"the page can't be written ({error.strerror})."
        raise RunError(str(path), problem, "Choose another file: --html NAME.html") from None


def _chosen(
    conversations: Sequence[Conversation], asked: Wanted, seed: int
) -> Sequence[Conversation]:
    total = len(conversations)
    if asked.origin is not None:
        found = [c for c in conversations if c.origin == asked.origin]
        if not found:
            raise DataError(
                asked.origin,
                "cleaning kept no row from there.",
                "Name it as conversations.jsonl does (file:line); rejected.jsonl has the others.",
            )
        return found[: asked.count]
    if asked.row is None:
        seed = seed if asked.seed is None else asked.seed
        return random.Random(seed).sample(conversations, min(asked.count, total))
    if not 1 <= asked.row <= total:
        raise DataError(
            "--row",
            f"there is no row {asked.row}; cleaning kept {total}.",
            f"Choose a number from 1 to {total}.",
        )
    return conversations[asked.row - 1 : asked.row - 1 + asked.count]


def _ranked(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    section: PrepareSection,
    asked: Wanted,
) -> list[Example]:
    """The first examples in an order; rows that can't be rendered are left out and said."""
    refused: list[str] = []

    def examples() -> Iterator[Example]:
        rows = track(conversations, "preview", total=len(conversations), unit="rows")
        for conversation in rows:
            try:
                yield from _rendered(conversation, tokenizer, section)
            except DataError:
                refused.append(conversation.origin)

    best = heapq.nsmallest(asked.count, examples(), key=ORDERS[str(asked.order)])
    if refused:
        say(f"{len(refused)} rows can't be rendered; burnish prepare says why")
    if asked.order == "most_cut":
        best = [example for example in best if example.num_cut]
    if not best:
        raise DataError(
            "preview", "there is no such row.", "Nothing is cut, or nothing can be rendered."
        )
    return best


def _rendered(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, section: PrepareSection
) -> list[Example]:
    """What a row is learned as; the reason why there is nothing is raised."""
    parts = render_row(conversation, tokenizer, section.max_length, section.train_on)
    examples = [found for _, found in parts if isinstance(found, Example)]
    for _, found in parts:
        if isinstance(found, DataError) and not examples:
            raise found
    return examples


def _whole_length(example: Example) -> int:
    """The tokens of an example before it was cut."""
    return len(example.input_ids) + example.num_cut


def _as_shown(example: Example, why: str) -> Shown:
    return Shown(
        why=why,
        origin=example.origin,
        input_ids=example.input_ids,
        labels=example.labels,
        num_tokens=len(example.input_ids),
        num_supervised=example.num_supervised,
        num_cut=example.num_cut,
    )
