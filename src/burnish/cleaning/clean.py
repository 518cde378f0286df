"""The clean stage: raw files -> conversations, with a ledger of every row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from burnish.cleaning.detection import layout_of
from burnish.cleaning.ledger import Counts, write_ledger
from burnish.cleaning.parts import Parts
from burnish.cleaning.row import Chunk, RowSettings
from burnish.cleaning.rules import RULES
from burnish.cleaning.text import convert_chinese
from burnish.cleaning.verdicts import compare, find_leaks, is_dropped
from burnish.cleaning.workers import clean_chunks
from burnish.contamination.index import Index, build_index
from burnish.contamination.items import load_items
from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.progress import say, track
from burnish.reading.files import name_of, read_records
from burnish.recipe import CleanSection, ContaminationSettings, DataSection, Source
from burnish.run_dir import PARTS, RunDir

CHUNK_ROWS = 2000
CHUNK_CHARS = 2**22
"""So many rows or characters are cleaned at a time, whichever is fewer: rows may be whole books."""

_PLACE = re.compile(r"(?::[p¶]?\d+){1,2}$")
"""What follows the file's name in an origin."""

STEPS = (
    "unreadable",
    "no_question",
    "no_answer",
    "no_text",
    *(name for name in RULES if name != "no_question"),
    "private",
    "contaminated",
    "duplicate",
    "near_duplicate",
)
"""The reasons to drop a row, in the order in which they are asked."""


class CleanReport(BaseModel):
    """What came of every row: num_read = num_kept + the sum of num_rejected.

    `rows_left` counts down after each step that dropped rows. `faults` counts the rows in which a
    fault was found, whichever fault decided; a kept row may have some.
    """

    model_config = ConfigDict(frozen=True)

    conversations: str
    rejected: str
    ledger: str
    num_read: int
    num_kept: int
    num_rejected: dict[str, int]
    rows_left: dict[str, int]
    num_repaired: dict[str, int]
    faults: dict[str, int]
    personal_data: dict[str, int]
    benchmark_items: dict[str, int]


def clean(data: DataSection, section: CleanSection, run: RunDir) -> CleanReport:
    """Keeps the conversations that break no rule, and says why each other was dropped.

    What is cleaned lies in 1-clean/parts until all of it is: an interrupted run goes on there. What
    an earlier run made stays until then, too.

    Raises:
        DataError: a source can't be read, or no row of all was kept.
    """
    folder = run.folder("clean")
    parts = Parts(folder / PARTS)
    try:
        with run.fresh("clean") as beside:
            counts = clean_into(beside, parts, data, section)
            if not counts.num_kept:
                raise _nothing_kept(data, counts)
    except DataError:
        _leave_no_parts(folder, parts)
        raise
    for rejection in counts.first_rejected:
        say(f"rejected {rejection['origin']} ({rejection['rule']}): {rejection['reason']}")
    return _report(folder, counts)


def clean_into(folder: Path, parts: Parts, data: DataSection, section: CleanSection) -> Counts:
    """Cleans all sources and writes the ledger's files into a folder; returns the counts.

    Raises:
        DataError: a source can't be read.
    """
    settings = row_settings(data, section)
    num_chunks = _clean_rows(parts, data, section, settings)
    if not num_chunks:
        return Counts()
    table = parts.table(num_chunks)
    leaks = find_leaks(parts) if settings.benchmarks else {}
    for row, leak in leaks.items():
        table.alive[row] &= not is_dropped(leak, section)
    verdicts = compare(table, parts, section, leaks)
    return write_ledger(folder, parts, table, verdicts, section)


def row_settings(data: DataSection, section: CleanSection) -> RowSettings:
    """All that a row is judged by, the benchmark items among it.

    Raises:
        DataError: the items can't be read.
        MissingExtraError: a package for what the recipe asks is not installed.
    """
    convert_chinese("", section.convert_chinese)  # a missing package is said here, not in a worker
    index = benchmark_index(data, section.contamination)
    return RowSettings(tuple(data.sources), section, data.system_prompt, index)


def benchmark_index(data: DataSection, settings: ContaminationSettings) -> Index | None:
    """The questions that rows are compared with, or None where the recipe names none.

    Raises:
        DataError: they can't be read.
    """
    if not settings.against:
        return None

    def read(path: str) -> Iterator[Record | BadRow]:
        return read_records(Source(path=path), max_unpacked_gib=data.max_unpacked_gib)

    index = build_index(load_items(settings, read), settings.ngram)
    if index.unchecked:
        say(f"{len(index.unchecked)} benchmark items are too short or too common to be looked for")
    return index


def _clean_rows(
    parts: Parts, data: DataSection, section: CleanSection, settings: RowSettings
) -> int:
    """Cleans the chunks that are not on disk yet; returns how many there are in all."""
    num_chunks = num_done = 0

    def todo() -> Iterator[Chunk]:
        nonlocal num_chunks, num_done
        for chunk in chunks_of(data):
            num_chunks += 1
            if parts.holds(chunk):
                num_done += len(chunk.rows)
            else:
                yield chunk

    cleaned = clean_chunks(todo(), settings, section)
    for chunk in track(cleaned, "clean", total=None, unit="rows", size=lambda c: len(c.lines)):
        if chunk.stop:
            origin, reason = chunk.stop
            raise DataError(
                origin,
                reason,
                "Mend the row, or set clean.bad_rows: reject to go on without it.",
            )
        parts.write(chunk)
    if num_done:
        say(f"clean: {num_done:,} rows were cleaned before the interruption")
    return num_chunks


def chunks_of(data: DataSection) -> Iterator[Chunk]:
    """The rows of all sources in order, in chunks; a chunk comes from one file.

    Raises:
        DataError: a file can't be read, or it has no column that holds the answers.
    """
    number = 0
    for index, (source, name) in enumerate(zip(data.sources, names_of(data.sources), strict=True)):
        rows: list[Record | BadRow] = []
        num_chars = 0
        file, layout = "", ""
        for row in read_records(source, max_unpacked_gib=data.max_unpacked_gib, name=name):
            row_file = _PLACE.sub("", row.origin)
            is_full = len(rows) == CHUNK_ROWS or num_chars >= CHUNK_CHARS
            if rows and (is_full or row_file != file):
                layout = layout or _layout(source, rows, index)
                yield Chunk(number, index, layout, tuple(rows))
                number, rows, num_chars = number + 1, [], 0
            if row_file != file:
                file, layout = row_file, ""
            rows.append(row)
            num_chars += _num_chars(row.fields if isinstance(row, Record) else row.text)
        if rows:
            layout = layout or _layout(source, rows, index)
            yield Chunk(number, index, layout, tuple(rows))
            number += 1


def _layout(source: Source, rows: Sequence[Record | BadRow], index: int) -> str:
    """The layout that the first rows of a file tell; empty where none of them can be read."""
    records = [row for row in rows if isinstance(row, Record)]
    return layout_of(source, records, f"data.sources[{index}]") if records else ""


def _num_chars(value: Any) -> int:
    """About how many characters a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_num_chars, value.values()))
    return sum(map(_num_chars, value)) if isinstance(value, list | tuple) else 8


def names_of(sources: Sequence[Source]) -> list[str]:
    """What stands for each source in origins: its name, or its path where two share the name."""
    names = [name_of(source) for source in sources]
    paths = [source.path for source in sources]
    unique = [n if names.count(n) == 1 else p for n, p in zip(names, paths, strict=True)]
    return [
        n if unique.count(n) == 1 else f"{n}#{unique[:index].count(n) + 1}"
        for index, n in enumerate(unique)
    ]


def _report(folder: Path, counts: Counts) -> CleanReport:
    return CleanReport(
        conversations=str(folder / "conversations.jsonl"),
        rejected=str(folder / "rejected.jsonl"),
        ledger=str(folder / "ledger.jsonl"),
        num_read=counts.num_read,
        num_kept=counts.num_kept,
        num_rejected=dict(counts.rejected.most_common()),
        rows_left=rows_left(counts),
        num_repaired=dict(counts.repaired.most_common()),
        faults=dict(counts.faults.most_common()),
        personal_data=dict(counts.personal.most_common()),
        benchmark_items=dict(counts.benchmarks.most_common()),
    )


def rows_left(counts: Counts) -> dict[str, int]:
    """How many rows are left after each step that dropped some, beginning with all."""
    left = {"read": counts.num_read}
    for step in STEPS:
        if counts.rejected[step]:
            left[step] = list(left.values())[-1] - counts.rejected[step]
    return left


def _leave_no_parts(folder: Path, parts: Parts) -> None:
    """What a failed run made is of no use to the next: the data or the recipe will be others."""
    parts.delete()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _nothing_kept(data: DataSection, counts: Counts) -> DataError:
    if not counts.num_read:
        return DataError(
            data.sources[0].path, "there is no row in this file.", "Check that it is the right one."
        )
    first = counts.first_rejected[0]
    mend = "Mend the file: that row, and the others like it."
    check = "Check the columns under data.sources[0].columns and the rules under clean."
    return DataError(
        first["origin"],
        f"none of {counts.num_read} rows was kept; this one because {first['reason']}",
        mend if set(counts.rejected) == {"unreadable"} else check,
    )
