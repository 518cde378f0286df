"""Benchmark items among training rows, and training rows that share text with held-out ones.

Three kinds of overlap count:

* `whole`: all of an item's question stands in the row, and it has at least 8 words;
* `run`: so many words in a row (13 by default) that begin in the question; choices behind it count;
* `half`: at least half of a question of 16 words or more, in a row, though fewer than 13. In
  Chinese that may be no more than the name of a disease: `without_terms` sets aside those that
  many rows share, and a `half` is to be looked at before a row is dropped for it (`is_sure`).

Rows of one subject share runs by the thousand (politenesses, lists of symptoms), so between
training and held-out rows only a `run` with a large `share` is a leak, and halves are none.
What is too short or too common to tell a leak from chance is named by `Index.unchecked`.

Source: Brown et al., "Language Models are Few-Shot Learners" (2020), appendix C: shared 13-grams of
lower-case words, without those that many documents hold, as the sign that a test leaked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from burnish.contamination.index import Index, Item, Run, passage, shared_runs
from burnish.conversation import Conversation

MAX_ROWS = 3
"""Half of a question that stands in more rows than that is a term, no leak."""
ROWS_AT_ONCE = 2000

Kind = Literal["half", "run", "whole"]
_KINDS: tuple[Kind, ...] = ("half", "run", "whole")


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a row shares with an item.

    Attributes:
        benchmark: the item's benchmark.
        item: the item's name.
        kind: whole, run or half.
        gram: the longest run of words that both have, as it stands in the row, in lower case.
        num_words: how many words that run has.
        share: how much of the question's words stand in the row, in runs of 8 words or more.
    """

    benchmark: str
    item: str
    kind: Kind
    gram: str
    num_words: int
    share: float

    @property
    def is_sure(self) -> bool:
        """Whether a row may be dropped for it unseen."""
        return self.kind != "half"


def find_overlaps(texts: Sequence[str], index: Index) -> list[Overlap | None]:
    """For each text its surest overlap with an item, or None."""
    found: list[Overlap | None] = [None] * len(texts)
    for begin in range(0, len(texts), ROWS_AT_ONCE):
        for row, runs in shared_runs(texts[begin : begin + ROWS_AT_ONCE], index):
            found[begin + row] = _surest(texts[begin + row], runs, index)
    return found


def _surest(text: str, runs_of: dict[int, list[Run]], index: Index) -> Overlap | None:
    """The overlap of the surest kind, then of the largest share, then with the longest run."""
    best: tuple[tuple[int, float, int], int, Run] | None = None
    for item, runs in runs_of.items():
        longest = max(runs, key=lambda run: run.length)
        share = _share(runs, int(index.asked[item]))
        kind = _kind(runs, longest.length, item, index)
        if kind is not None:
            rank = (_KINDS.index(kind), share, longest.length)
            if best is None or rank > best[0]:
                best = (rank, item, longest)
    if best is None:
        return None
    (kind_number, share, length), item, run = best
    gram = passage(text, run.in_row, run.length)
    return Overlap(*index.names[item], _KINDS[kind_number], gram, length, share)


def _kind(runs: list[Run], longest: int, item: int, index: Index) -> Kind | None:
    asked = int(index.asked[item])
    total = int(index.bounds[item + 1] - index.bounds[item])
    in_question = max(min(run.length, asked - run.in_item) for run in runs)
    if in_question == asked >= index.seed_words:
        return "whole"
    if longest >= min(index.ngram, total):
        return "run"
    if index.halves and asked >= 2 * index.seed_words and in_question >= asked // 2:
        return "half"
    return None


def _share(runs: list[Run], asked: int) -> float:
    covered = {place for run in runs for place in range(run.in_item, run.in_item + run.length)}
    return sum(place < asked for place in covered) / asked


def without_terms(overlaps: Sequence[Overlap | None]) -> list[Overlap | None]:
    """The overlaps of all rows, without the halves of an item that more than 3 rows share."""
    rows = Counter(o.item for o in overlaps if o is not None and o.kind == "half")
    return [
        None if o is not None and o.kind == "half" and rows[o.item] > MAX_ROWS else o
        for o in overlaps
    ]


def text_of(conversation: Conversation, *, with_tools: bool = False) -> str:
    """What is looked at of a row: all that is said, function calls too, but for the system prompt.

    With `with_tools` also the descriptions of the functions, which many rows share.
    """
    parts = [
        part
        for message in conversation.messages
        if message.role != "system"
        for part in (
            message.reasoning_content,
            message.content,
            message.input,
            *_strings(message.tool_calls),
        )
        if part
    ]
    if with_tools:
        parts += _strings(conversation.tools)
    return "\n".join(parts)


def _strings(value: Any) -> Iterator[str]:
    """The strings of a JSON value, keys aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def held_out_items(conversations: Iterable[Conversation], split: str) -> list[Item]:
    """An item per held-out conversation, under its origin, for `build_index(…, halves=False)`."""
    return [Item(split, c.origin, text_of(c)) for c in conversations]
