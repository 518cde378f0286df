"""What an audit found, in the shape in which it is printed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """What all parts of the report share: nothing writes to them."""

    model_config = ConfigDict(frozen=True)


class SourceLook(Part):
    """How a source is read, and how many rows came of it."""

    layout: str
    columns: dict[str, str]
    num_rows: int


class Lengths(Part):
    """Percentiles in characters and in tokens: of questions, answers and whole conversations.

    `tokens_of` says whose tokens these are, of how many rows, or why there are none; `advice`, how
    long prepare.max_length should be.
    """

    characters: dict[str, dict[str, int]]
    tokens: dict[str, dict[str, int]]
    tokens_of: str
    advice: str


class Copy(Part):
    """A row that repeats another one: that one's origin, how alike they are, and both texts."""

    repeats: str
    similarity: float
    text: str
    repeated_text: str


class Change(Part):
    """The place that a repair rewrites, before and after."""

    before: str
    after: str


class Examples(Part):
    """The first rows of each kind by their origin (`file:line`), with the place in question."""

    faults: dict[str, dict[str, str]]
    rules: dict[str, dict[str, str]]
    repairs: dict[str, dict[str, Change]]
    switched_off: dict[str, dict[str, Change | str]]
    duplicates: dict[str, dict[str, Copy]]
    personal_data: dict[str, dict[str, str]]
    benchmark_items: dict[str, dict[str, str]]


class AuditReport(Part):
    """What is in a data set, and what cleaning with these settings would do to it.

    Attributes:
        target: what was looked at.
        page: the HTML page that was written, if any.
        num_read: the rows of all sources.
        num_kept: the rows that cleaning would keep.
        sources: how each source is read.
        rows_left: the rows left after each step of cleaning that drops some.
        num_dropped: the rows that each of those steps drops.
        lengths: how long the rows are that would be kept.
        languages: answers by the script that most of their words are written in.
        faults: rows with each fault, as they come.
        broken_rules: rows that break each rule, whichever would drop them.
        repairs: rows that each repair would change.
        switched_off: rows that settings which are off would change or drop.
        duplicates: rows that repeat another one, exactly or nearly.
        personal_data: findings of each kind.
        benchmark_items: rows that hold words of each benchmark.
        examples: the first rows of each of these.
    """

    target: str
    page: str | None
    num_read: int
    num_kept: int
    sources: dict[str, SourceLook]
    rows_left: dict[str, int]
    num_dropped: dict[str, int]
    lengths: Lengths
    languages: dict[str, int]
    faults: dict[str, int]
    broken_rules: dict[str, int]
    repairs: dict[str, int]
    switched_off: dict[str, int]
    duplicates: dict[str, int]
    personal_data: dict[str, int]
    benchmark_items: dict[str, int]
    examples: Examples
