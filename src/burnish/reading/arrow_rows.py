"""Parquet files and data sets of the datasets library -> records.

They have no lines; the number of the row stands there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from burnish.conversation import BadRow, Record
from burnish.errors import DataError, first_line
from burnish.reading.folders import printable
from burnish.reading.unpacking import Limit

_SAVED = ("dataset_dict.json", "state.json")
_MAX_BATCH_BYTES = 2**31
_FEWEST_ROWS, _MOST_ROWS = 4, 64
"""So many rows are read at once, fewer where they might unpack to more than _MAX_BATCH_BYTES: a
value that the file holds once may stand in every row."""


def parquet_rows(stream: BinaryIO, name: str, max_unpacked_gib: float) -> Iterator[Record | BadRow]:
    """The rows of a parquet file.

    Raises:
        DataError: it is broken, unpacks to too much, or two columns have one name.
    """
    import pyarrow
    from pyarrow import parquet

    limit = Limit(name, stream.seek(0, io.SEEK_END), max_unpacked_gib, "file")
    try:
        file = parquet.ParquetFile(stream, pre_buffer=False)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(name, "two columns have one name.", "Give each a name of its own.")
        # Of columns, damaged files give no sizes but end the process: pyarrow aborts.
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        sizes = [max(0, group.total_byte_size) for group in groups]
        limit.check(sum(sizes))
        batches = file.iter_batches(_rows_at_once(max(sizes, default=0)))
        yield from _within(_batches(batches, name), limit)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = f"this is no whole parquet file: {first_line(error)}."
        raise DataError(name, problem, "Write or fetch it again.") from None


def _rows_at_once(group_bytes: int) -> int:
    """How many rows to read at once, where the largest group of rows unpacks to so many bytes."""
    return min(max(_MAX_BATCH_BYTES // max(1, group_bytes), _FEWEST_ROWS), _MOST_ROWS)


def _within(rows: Iterator[Record | BadRow], limit: Limit) -> Iterator[Record | BadRow]:
    """The rows, as long as all that were read hold no more than the limit."""
    num_bytes = 0
    for row in rows:
        num_bytes += _size(row.fields) if isinstance(row, Record) else len(row.text)
        limit.check_size(num_bytes)
        yield row


def _size(value: Any) -> int:
    """About how many bytes a value holds, at least; a character counts as one."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 8


def _batches(batches: Iterable[Any], name: str) -> Iterator[Record | BadRow]:
    number = 1
    for batch in batches:
        yield from _batch_rows(batch, name, number)
        number += batch.num_rows


def _batch_rows(batch: Any, name: str, first: int) -> Iterator[Record | BadRow]:
    try:
        for number, fields in enumerate(batch.to_pylist(), start=first):
            yield Record(fields, f"{name}:{number}")
    except (ValueError, OverflowError) as error:  # no UTF-8, or a date that Python does not know
        if batch.num_rows == 1:
            yield BadRow(f"{name}:{first}", f"this row can't be read: {error}.", "")
            return
        for index in range(batch.num_rows):
            yield from _batch_rows(batch.slice(index, 1), name, first + index)


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    return any((folder / name).is_file() for name in _SAVED)


def saved_rows(
    folder: Path, name: str, split: str, max_unpacked_gib: float
) -> Iterator[Record | BadRow]:
    """The rows of a split of what `save_to_disk` wrote.

    Raises:
        DataError: it is broken, unpacks to more than its own size and the limit, or there is no
            such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # the package raises many kinds on a broken folder
        raise DataError(
            printable(str(folder)),
            f"this folder of save_to_disk can't be read: {first_line(error)}.",
            "Write it again.",
        ) from None
    is_dict = isinstance(loaded, DatasetDict)
    if is_dict and split not in loaded:
        raise DataError(
            printable(str(folder)),
            f"there is no split {split!r} in this folder; it holds {', '.join(loaded)}.",
            "Name one of them as the split of this source.",
        )
    packed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    limit = Limit(printable(str(folder)), packed, max(max_unpacked_gib, packed / 2**30), "folder")
    yield from _within(_rows(loaded[split] if is_dict else loaded, name), limit)


def hub_rows(dataset: str, name: str, split: str, *, streaming: bool) -> Iterator[Record]:
    """The rows of a split of a data set on the Hugging Face hub, or in a folder of its layout.

    Raises:
        DataError: it can't be loaded.
    """
    from datasets import load_dataset

    try:
        yield from _rows(load_dataset(dataset, split=split, streaming=streaming), name)
    except Exception as error:  # the package raises many kinds, for network, names and formats
        raise DataError(
            f"hf:{dataset}",
            f"the data set can't be loaded ({first_line(error)}).",
            "Check the name, the split and the network; in China set HF_ENDPOINT to a mirror. "
            "For a private data set log in with: hf auth login",
        ) from None


def _rows(dataset: Iterable[dict[str, Any]], name: str) -> Iterator[Record]:
    for number, fields in enumerate(dataset, start=1):
        yield Record(dict(fields), f"{name}:{number}")
