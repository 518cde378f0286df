"""Sources -> records: which files a source names, and who reads each kind.

Every record keeps its origin, `name:line`: the line on which the row begins. Files are read as
streams, twice where they are text, since the first reading finds the encoding.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.progress import say
from burnish.reading.archives import (
    ZIP,
    RawFile,
    check_zip,
    kind_of,
    members,
    raw_file,
    seekable,
)
from burnish.reading.arrow_rows import hub_rows, is_saved, parquet_rows, saved_rows
from burnish.reading.csv_rows import csv_rows
from burnish.reading.documents import docx_passages, pdf_passages
from burnish.reading.encodings import Encoding, find_encoding, lines, pieces
from burnish.reading.folders import find_files, folder_of, is_pattern, printable
from burnish.reading.json_rows import is_list, json_lines, json_list, refuse_lone_object
from burnish.reading.passages import text_passages
from burnish.recipe import Source

HUB = "hf:"
_ABOUT_DATA = re.compile(r"(readme|licen[cs]e|changelog|notice|citation)\b.*\.(md|txt)$", re.I)

Rows = Iterator[Record | BadRow]
Tell = Callable[[str], None]


def read_records(
    source: Source, *, max_unpacked_gib: float, name: str | None = None, tell: Tell = say
) -> Rows:
    """The rows of a source in order, up to its limit; a row that can't be read comes as BadRow.

    Args:
        source: where the rows are.
        max_unpacked_gib: the most that a .gz, a .zip or a parquet file may unpack to.
        name: what stands first in the origins; by default `name_of` the source.
        tell: takes remarks, such as which files are skipped; by default they go to stderr.

    Raises:
        DataError: there is no such file, its kind is unknown, or it can't be read as that kind.
        MissingExtraError: the package that reads its kind is not installed.
    """
    rows = _rows(source, name or name_of(source), max_unpacked_gib, tell)
    yield from itertools.islice(rows, source.limit)


def name_of(source: Source) -> str:
    """What stands first in the origins of a source's rows: the name of its file or folder.

    A folder's files follow with their path within it. A pattern counts as the folder before it.
    """
    if source.path.startswith(HUB):
        return source.path.removeprefix(HUB)
    path = Path(os.path.expanduser(source.path))
    named = folder_of(path) if is_pattern(path) else path
    return printable(named.name if named.name not in ("", "..") else named.resolve().name)


def _rows(source: Source, name: str, max_unpacked_gib: float, tell: Tell) -> Rows:
    if source.path.startswith(HUB):
        dataset = source.path.removeprefix(HUB)
        yield from hub_rows(dataset, name, source.split, streaming=source.streaming)
        return
    path = Path(os.path.expanduser(source.path))
    if path.is_dir() and is_saved(path):
        yield from saved_rows(path, name, source.split, max_unpacked_gib)
        return
    skipped: list[str] = []
    is_empty = True
    for raw in _files(path, source.path, name, max_unpacked_gib, tell):
        if raw.kind in READERS and (raw.name == name or not _is_about(raw, source)):
            is_empty = False
            yield from READERS[raw.kind](raw, source)
        else:
            skipped.append(raw.name.rpartition("/")[2] if raw.kind in READERS else raw.kind)
    if skipped:
        kinds = ", ".join(sorted({kind or "no ending" for kind in skipped}))
        tell(f"{name}: skipped {len(skipped)} files that burnish takes for no data ({kinds})")
    if is_empty:
        raise DataError(
            printable(source.path), "there is no file in it that burnish reads.", _REMEDY
        )


def _is_about(raw: RawFile, source: Source) -> bool:
    """Whether a file beside others tells of the data, such as README.md, and holds none."""
    return source.layout != "text" and _ABOUT_DATA.match(raw.name.rpartition("/")[2]) is not None


def _files(
    path: Path, given: str, name: str, max_unpacked_gib: float, tell: Tell
) -> Iterator[RawFile]:
    """The files that a path names, those in archives too."""
    if path.is_dir() or is_pattern(path):
        found = [(file, f"{name}/{printable(below)}") for file, below in _within(path, name, tell)]
    else:
        _check_file(path, given)
        found = [(path, name)]
    for file, full in found:
        if file.suffix.lower() == ZIP:
            yield from members(file, full, max_unpacked_gib, tell)
        else:
            yield raw_file(file, full, max_unpacked_gib, tell)


def _within(path: Path, name: str, tell: Tell) -> tuple[tuple[Path, str], ...]:
    """The files of a folder or pattern, each with its path below the folder."""
    found = find_files(path)
    if found.runs:
        runs = ", ".join(printable(str(run)) for run in found.runs)
        tell(f"{name}: skipped what burnish wrote itself in the run folders {runs}")
    if found.strange:
        names = ", ".join(map(printable, found.strange))
        tell(f"{name}: skipped what is neither file nor folder, such as broken links: {names}")
    return found.files


def _check_file(path: Path, given: str) -> None:
    if not path.is_file() and os.path.lexists(path):
        what = "link that leads to no file" if path.is_symlink() else "pipe or device"
        raise DataError(
            printable(given), f"this is a {what}.", "Name the file that holds the data."
        )
    if not path.is_file():
        raise DataError(
            printable(given),
            f"there is no such file (looked for {printable(str(path.absolute()))}).",
            "Paths in a recipe are relative to the folder in which you run burnish.",
        )
    kind = kind_of(path.name)
    if kind not in READERS and path.suffix.lower() != ZIP:
        raise DataError(
            printable(given),
            f"burnish can't read files of the kind {kind!r}."
            if kind
            else "this file's name has no ending that says what kind it is.",
            _REMEDY,
        )


def _encoding(raw: RawFile) -> Encoding:
    encoding = find_encoding(raw)
    if not encoding.name.startswith("utf-8"):
        raw.tell(f"{raw.name}: read as {encoding.name}")
    return encoding


def _read_csv(raw: RawFile, _: Source) -> Rows:
    encoding = _encoding(raw)
    delimiter = "\t" if raw.kind == ".tsv" else ","
    rows = lines(pieces(raw, encoding))
    return csv_rows(rows, raw.name, delimiter, encoding.title, raw.tell)


def _read_json(raw: RawFile, _: Source) -> Rows:
    """A JSON list of objects, or JSON lines, under any of their names."""
    encoding = _encoding(raw)
    parts = partial(pieces, raw, encoding)
    if is_list(parts()):
        return json_list(parts(), raw.name, encoding.title)
    if raw.kind == ".json":
        refuse_lone_object(parts(), raw.name)
    return json_lines(lines(parts()), raw.name, encoding.title)


def _read_text(raw: RawFile, source: Source) -> Rows:
    encoding = _encoding(raw)
    return text_passages(
        lines(pieces(raw, encoding)),
        raw.name,
        source.passage_chars,
        markdown=raw.kind == ".md",
        encoding=encoding.title,
    )


def _read_parquet(raw: RawFile, _: Source) -> Rows:
    with seekable(raw) as stream:
        yield from parquet_rows(stream, raw.name, raw.max_unpacked_gib)


def _read_docx(raw: RawFile, source: Source) -> Rows:
    with seekable(raw) as stream:
        check_zip(stream, raw.name, raw.max_unpacked_gib)
        yield from docx_passages(stream, raw.name, source.passage_chars)


def _read_pdf(raw: RawFile, source: Source) -> Rows:
    with seekable(raw) as stream:
        yield from pdf_passages(stream, raw.name, source.passage_chars)


READERS: dict[str, Callable[[RawFile, Source], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
    ".docx": _read_docx,
    ".pdf": _read_pdf,
}
"""How a file is read, by the end of its name."""

_REMEDY = (
    f"It reads {', '.join(READERS)}, with .gz behind or in a .zip, folders of them, and folders "
    "written by save_to_disk."
)
