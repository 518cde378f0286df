"""Sources -> records: which files a source names, and who reads each kind.

Every record keeps its origin, `name:line`: the line on which the row begins. Files are read as
streams, twice where they are text, since the first reading finds the encoding.
"""

from __future__ import annotations

import glob
import itertools
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
    is_hidden,
    kind_of,
    members,
    raw_file,
    seekable,
)
from burnish.reading.arrow_rows import hub_rows, is_saved, parquet_rows, saved_rows
from burnish.reading.csv_rows import csv_rows
from burnish.reading.documents import docx_passages, pdf_passages
from burnish.reading.encodings import Encoding, find_encoding, lines, pieces
from burnish.reading.json_rows import is_list, json_lines, json_list, refuse_lone_object
from burnish.reading.passages import text_passages
from burnish.recipe import Source

HUB = "hf:"
_WILDCARDS = "*?["
_ABOUT_DATA = re.compile(r"(readme|licen[cs]e|changelog|notice|citation)\b.*\.(md|txt)$", re.I)

Rows = Iterator[Record | BadRow]


def read_records(source: Source, *, max_unpacked_gib: float, name: str | None = None) -> Rows:
    """The rows of a source in order, up to its limit; a row that can't be read comes as BadRow.

    Args:
        source: where the rows are.
        max_unpacked_gib: the most that a .gz or .zip may unpack to.
        name: what stands first in the origins; by default `name_of` the source.

    Raises:
        DataError: there is no such file, its kind is unknown, or it can't be read as that kind.
        MissingExtraError: the package that reads its kind is not installed.
    """
    rows = _rows(source, name or name_of(source), max_unpacked_gib)
    yield from itertools.islice(rows, source.limit)


def name_of(source: Source) -> str:
    """What stands first in the origins of a source's rows: the name of its file or folder.

    A folder's files follow with their path within it. A pattern counts as the folder before it.
    """
    if source.path.startswith(HUB):
        return source.path.removeprefix(HUB)
    path = Path(source.path).expanduser()
    named = _folder_of(path) if _is_pattern(path) else path
    return _printable(named.name if named.name not in ("", "..") else named.resolve().name)


def _printable(name: str) -> str:
    """A name without the lone surrogates that stand for bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _rows(source: Source, name: str, max_unpacked_gib: float) -> Rows:
    if source.path.startswith(HUB):
        dataset = source.path.removeprefix(HUB)
        yield from hub_rows(dataset, name, source.split, streaming=source.streaming)
        return
    path = Path(source.path).expanduser()
    if path.is_dir() and is_saved(path):
        yield from saved_rows(path, name, source.split)
        return
    skipped: list[str] = []
    is_empty = True
    for raw in _files(path, source.path, name, max_unpacked_gib):
        if raw.kind in READERS and (raw.name == name or not _is_about(raw, source)):
            is_empty = False
            yield from READERS[raw.kind](raw, source)
        else:
            skipped.append(raw.name.rpartition("/")[2] if raw.kind in READERS else raw.kind)
    if skipped:
        kinds = ", ".join(sorted({kind or "no ending" for kind in skipped}))
        say(f"{name}: skipped {len(skipped)} files that burnish takes for no data ({kinds})")
    if is_empty:
        raise DataError(source.path, "there is no file in it that burnish reads.", _REMEDY)


def _is_about(raw: RawFile, source: Source) -> bool:
    """Whether a file beside others tells of the data, such as README.md, and holds none."""
    return source.layout != "text" and _ABOUT_DATA.match(raw.name.rpartition("/")[2]) is not None


def _files(path: Path, given: str, name: str, max_unpacked_gib: float) -> Iterator[RawFile]:
    """The files that a path names, those in archives too."""
    if path.is_dir() or _is_pattern(path):
        found = [(file, f"{name}/{_printable(below)}") for file, below in _within(path)]
    else:
        _check_file(path, given)
        found = [(path, name)]
    for file, full in found:
        if file.suffix.lower() == ZIP:
            yield from members(file, full, max_unpacked_gib)
        else:
            yield raw_file(file, full, max_unpacked_gib)


def _is_pattern(path: Path) -> bool:
    return any(mark in str(path) for mark in _WILDCARDS) and not path.exists()


def _folder_of(pattern: Path) -> Path:
    """The part of a pattern before its first wildcard."""
    parts = itertools.takewhile(lambda part: not set(part) & set(_WILDCARDS), pattern.parts)
    return Path(*parts)


def _within(path: Path) -> Iterator[tuple[Path, str]]:
    """The files of a folder or pattern, sorted, each with its path below the folder."""
    if path.is_dir():
        folder, found = path, path.rglob("*")
    else:
        folder = _folder_of(path)
        found = (Path(match) for match in glob.iglob(str(path), recursive=True))
    for file in sorted(found):
        below = file.relative_to(folder).as_posix()
        if not is_hidden(below) and file.is_file():
            yield file, below


def _check_file(path: Path, given: str) -> None:
    if not path.is_file():
        raise DataError(
            given,
            f"there is no such file (looked for {path.absolute()}).",
            "Paths in a recipe are relative to the folder in which you run burnish.",
        )
    kind = kind_of(path.name)
    if kind not in READERS and path.suffix.lower() != ZIP:
        raise DataError(
            given,
            f"burnish can't read files of the kind {kind!r}."
            if kind
            else "this file's name has no ending that says what kind it is.",
            _REMEDY,
        )


def _encoding(raw: RawFile) -> Encoding:
    encoding = find_encoding(raw)
    if not encoding.name.startswith("utf-8"):
        say(f"{raw.name}: read as {encoding.name}")
    return encoding


def _read_csv(raw: RawFile, _: Source) -> Rows:
    encoding = _encoding(raw)
    delimiter = "\t" if raw.kind == ".tsv" else ","
    rows = lines(pieces(raw, encoding, newline=""))
    return csv_rows(rows, raw.name, delimiter, encoding.title)


def _read_json(raw: RawFile, _: Source) -> Rows:
    """A JSON list of objects, or JSON lines, under any of their names."""
    encoding = _encoding(raw)
    parts = partial(pieces, raw, encoding, newline="\n")
    if is_list(parts()):
        return json_list(parts(), raw.name, encoding.title)
    if raw.kind == ".json":
        refuse_lone_object(parts(), raw.name)
    return json_lines(lines(parts()), raw.name, encoding.title)


def _read_text(raw: RawFile, source: Source) -> Rows:
    encoding = _encoding(raw)
    return text_passages(
        lines(pieces(raw, encoding, newline="")),
        raw.name,
        source.passage_chars,
        markdown=raw.kind == ".md",
        encoding=encoding.title,
    )


def _read_parquet(raw: RawFile, _: Source) -> Rows:
    with seekable(raw) as stream:
        yield from parquet_rows(stream, raw.name)


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
