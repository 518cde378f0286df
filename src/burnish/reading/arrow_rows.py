"""Parquet files and data sets of the datasets library -> records.

They have no lines; the number of the row stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from burnish.conversation import BadRow, Record
from burnish.errors import DataError

_SAVED = ("dataset_dict.json", "state.json")
_ROWS_AT_ONCE = 1000


def parquet_rows(stream: BinaryIO, name: str) -> Iterator[Record | BadRow]:
    """The rows of a parquet file.

    Raises:
        DataError: it is broken, or two columns have one name.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(stream)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(name, "two columns have one name.", "Give each a name of its own.")
        number = 1
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from _batch_rows(batch, name, number)
            number += batch.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = _first_line(error).rstrip(".")
        raise DataError(
            name, f"this is no whole parquet file: {problem}.", "Write or fetch it again."
        ) from None


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


def saved_rows(folder: Path, name: str, split: str) -> Iterator[Record]:
    """The rows of a split of what `save_to_disk` wrote.

    Raises:
        DataError: it is broken, or there is no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # the package raises many kinds on a broken folder
        raise DataError(
            str(folder),
            f"this folder of save_to_disk can't be read: {_first_line(error)}.",
            "Write it again.",
        ) from None
    if isinstance(loaded, DatasetDict) and split not in loaded:
        raise DataError(
            str(folder),
            f"there is no split {split!r} in this folder; it holds {', '.join(loaded)}.",
            "Name one of them as the split of this source.",
        )
    yield from _rows(loaded[split] if isinstance(loaded, DatasetDict) else loaded, name)


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
            f"the data set can't be loaded ({_first_line(error)}).",
            "Check the name, the split and the network; in China set HF_ENDPOINT to a mirror. "
            "For a private data set log in with: hf auth login",
        ) from None


def _rows(dataset: Iterable[dict[str, Any]], name: str) -> Iterator[Record]:
    for number, fields in enumerate(dataset, start=1):
        yield Record(dict(fields), f"{name}:{number}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
