"""Files -> records: csv, tsv, json, JSON lines, parquet and Hugging Face data sets.

Every record keeps its origin: `file:line`, the line on which the row begins. A parquet file or data
set has no lines; the number of the row stands there.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from burnish.cleaning.json_rows import json_lines, json_list, refuse_lone_object
from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.progress import say
from burnish.recipe import Source

MIN_UTF8 = 16
"""So many characters beyond ASCII that read as UTF-8 are no accident of another encoding."""

HUB = "hf:"


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
            f"burnish can't read files of the kind {path.suffix!r}."
            if path.suffix
            else "this file's name has no ending that says what kind it is.",
            f"It reads {', '.join(READERS)}, and folders written by save_to_disk.",
        )
    return reader(path)


def read_text(path: Path) -> tuple[str, str]:
    """A file's text and the encoding that it was found to be in.

    A byte order mark is believed; without one it is UTF-8, or else GB18030.

    Raises:
        DataError: none of the encodings fits; the message names the byte.
    """
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _decode(data, "utf-16", path, "is no UTF-16, though it begins like it"), "utf-16"
    encoding = "utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8"
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        # GB18030 reads almost any bytes: a UTF-8 file with one broken byte would become gibberish.
        before = data[: error.start].decode("utf-8")
        if sum(not character.isascii() for character in before) >= MIN_UTF8:
            raise _undecodable(data, error, path, "is UTF-8 only up to here") from None
    return _decode(data, "gb18030", path, "is neither UTF-8 nor GB18030"), "gb18030"


def _decode(data: bytes, encoding: str, path: Path, otherwise: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, error, path, otherwise) from None


def _undecodable(data: bytes, error: UnicodeDecodeError, path: Path, what: str) -> DataError:
    line = data.count(b"\n", 0, error.start) + 1
    return DataError(
        f"{path.name}:{line}",
        f"this file {what}: byte {data[error.start]:#04x} at position {error.start} can't be read.",
        "Save the file as UTF-8; some rows may mix encodings.",
    )


def _text_of(path: Path) -> str:
    text, encoding = read_text(path)
    if not encoding.startswith("utf-8"):
        say(f"{path.name}: read as {encoding}")
    return text


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Record | BadRow]:
    text = io.StringIO(_text_of(path), newline="")
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(text, delimiter=delimiter, strict=True)
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
    text = _text_of(path)
    if text.lstrip().startswith("["):
        return json_list(text, path.name)
    refuse_lone_object(text, path.name)
    return json_lines(text, path.name)


def _read_json_lines(path: Path) -> Iterator[Record | BadRow]:
    text = _text_of(path)
    if text.lstrip().startswith("["):
        return json_list(text, path.name)
    return json_lines(text, path.name)


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
    except (pyarrow.ArrowException, OSError) as error:
        problem = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            path.name, f"this is no whole parquet file: {problem}.", "Write or fetch it again."
        ) from None


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
    if isinstance(loaded, DatasetDict) and split not in loaded:
        raise DataError(
            str(path),
            f"there is no split {split!r} in this folder; it holds {', '.join(loaded)}.",
            "Name one of them as the split of this source.",
        )
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
