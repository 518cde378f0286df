"""Files -> records: csv, tsv, json, JSON lines, parquet and Hugging Face data sets.

Every record keeps its origin: `file:line`, the line on which the row begins.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from burnish.conversation import Record
from burnish.errors import DataError
from burnish.recipe import Source

ENCODINGS = ("utf-8-sig", "utf-8", "gb18030")
"""Tried in this order; a byte order mark of UTF-16 is believed."""

HUB = "hf:"


class BadRow(Exception):
    """A row that can't be read as a record; says where and why."""

    def __init__(self, origin: str, reason: str, text: str) -> None:
        super().__init__(reason)
        self.origin = origin
        self.reason = reason
        self.text = text


def read_records(source: Source) -> Iterator[Record | BadRow]:
    """The rows of a source in order, up to its limit; a row that can't be read comes as BadRow.

    Raises:
        DataError: there is no such file, its type is unknown, or its encoding can't be read.
    """
    rows = _open(source)
    for count, row in enumerate(rows):
        if source.limit is not None and count >= source.limit:
            return
        yield row


def _open(source: Source) -> Iterator[Record | BadRow]:
    if source.path.startswith(HUB):
        return _from_hub(source)
    path = Path(source.path).expanduser()
    if path.is_dir():
        return _from_saved(path, source.split)
    if not path.is_file():
        raise DataError(
            source.path,
            f"there is no such file (looked for {path.absolute()}).",
            "Paths in a recipe are relative to the folder in which you run burnish.",
        )
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            source.path,
            f"burnish does not know files that end in {path.suffix or 'nothing'!r}.",
            f"It reads {', '.join(READERS)}, and folders written by save_to_disk.",
        )
    return reader(path)


def read_text(path: Path) -> tuple[str, str]:
    """A file's text and the encoding that it was found to be in.

    Raises:
        DataError: none of the encodings fits; the message names the byte.
    """
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _decode(data, "utf-16", path), "utf-16"
    for encoding in ENCODINGS:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return _decode(data, "gb18030", path), "gb18030"


def _decode(data: bytes, encoding: str, path: Path) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}:{line}",
            f"this file is neither UTF-8 nor GB18030: byte {data[error.start]:#04x} at position "
            f"{error.start} can't be read.",
            "Save the file as UTF-8; some rows may mix encodings.",
        ) from None


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Record | BadRow]:
    text, _ = read_text(path)
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path.name}:{start}",
                f"this row's quotes don't close or don't match ({error}).",
                'Double a quote inside a quoted field ("") and close every quote.',
            ) from None
        origin, start = f"{path.name}:{start}", rows.line_num + 1
        if header is None:
            header = _header(row, origin)
        elif not row:
            continue
        elif len(row) != len(header):
            reason = f"this row has {len(row)} fields, the header {len(header)}."
            yield BadRow(origin, reason, delimiter.join(row))
        else:
            yield Record(dict(zip(header, row, strict=True)), origin)


def _header(row: list[str], origin: str) -> list[str]:
    names = [name.strip() for name in row]
    twice = {name for name in names if names.count(name) > 1}
    if not any(names) or twice:
        what = f"has column {sorted(twice)[0]!r} twice" if twice else "is empty"
        raise DataError(origin, f"the header {what}.", "Give every column a name of its own.")
    return names


def _read_tsv(path: Path) -> Iterator[Record | BadRow]:
    return _read_csv(path, "\t")


def _read_json(path: Path) -> Iterator[Record | BadRow]:
    """A JSON list of objects, or JSON lines under the name .json."""
    text, _ = read_text(path)
    if not text.lstrip().startswith("["):
        yield from _json_lines(text, path.name)
        return
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    line, counted = 1, 0
    while True:
        position = _skip(text, position, " \t\r\n,")
        if text[position : position + 1] in ("]", ""):
            return
        line, counted = line + text.count("\n", counted, position), position
        origin = f"{path.name}:{line}"
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path.name}:{error.lineno}",
                f"this is not JSON: {error.msg} at column {error.colno}.",
                "Mend the file there; what follows can't be told apart.",
            ) from None
        yield _json_record(value, origin)


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _read_json_lines(path: Path) -> Iterator[Record | BadRow]:
    text, _ = read_text(path)
    return _json_lines(text, path.name)


def _json_lines(text: str, name: str) -> Iterator[Record | BadRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        origin = f"{name}:{number}"
        try:
            yield _json_record(json.loads(line), origin)
        except json.JSONDecodeError as error:
            yield BadRow(origin, f"this is not JSON: {error.msg} at column {error.colno}.", line)
        except RecursionError:
            yield BadRow(origin, "this JSON is nested too deeply.", line[:1000])


def _json_record(value: Any, origin: str) -> Record | BadRow:
    if isinstance(value, dict):
        return Record(value, origin)
    return BadRow(origin, f"a row is an object; found {type(value).__name__}.", json.dumps(value))


def _read_parquet(path: Path) -> Iterator[Record | BadRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1000):
            for fields in batch.to_pylist():
                number += 1
                yield Record(fields, f"{path.name}:{number}")
    except pyarrow.ArrowException as error:
        raise DataError(path.name, f"this is no parquet file: {error}.", "") from None


def _from_saved(path: Path, split: str) -> Iterator[Record | BadRow]:
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            str(path),
            f"this folder was not written by save_to_disk: {error}",
            "Name a file, or a folder written by Dataset.save_to_disk.",
        ) from None
    yield from _rows(loaded[split] if isinstance(loaded, DatasetDict) else loaded, path.name)


def _from_hub(source: Source) -> Iterator[Record | BadRow]:
    from datasets import load_dataset

    name = source.path.removeprefix(HUB)
    try:
        loaded = load_dataset(name, split=source.split)
    except Exception as error:  # the package raises many kinds, for network, names and formats
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            source.path,
            f"the data set can't be loaded ({first}).",
            "Check the name, the split and the network; in China set HF_ENDPOINT to a mirror. "
            "For a private data set log in with: hf auth login",
        ) from None
    yield from _rows(loaded, name)


def _rows(dataset: Any, name: str) -> Iterator[Record]:
    for number, fields in enumerate(dataset, start=1):
        yield Record(dict(fields), f"{name}:{number}")


READERS: dict[str, Callable[[Path], Iterator[Record | BadRow]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
"""How a file is read, by the end of its name."""
