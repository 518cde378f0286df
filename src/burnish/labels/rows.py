"""Saved examples as flat arrays, batch by batch: no row becomes a Python list."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.conversation import IGNORE_INDEX
from burnish.errors import DataError, first_line

Ints = NDArray[Any]
Rows = NDArray[np.bool_]

TOKENS_PER_BATCH = 1 << 19
"""About so many tokens are looked at together, so memory does not grow with the set."""

_COLUMNS = ("input_ids", "labels", "attention_mask", "num_cut")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a set, their tokens one behind the other.

    Attributes:
        ids: token ids, [tokens].
        labels: as many; IGNORE_INDEX where a row has too few.
        attended: what the attention mask says, [tokens]; None where there is none.
        starts: where each row begins, [rows].
        lengths: its tokens, [rows].
        label_lengths: its labels as they came, [rows].
        num_cut: tokens that were cut from it, [rows]; None where the set does not say.
    """

    ids: Ints
    labels: Ints
    attended: Rows | None
    starts: Ints
    lengths: Ints
    label_lengths: Ints
    num_cut: Ints | None

    @property
    def ends(self) -> Ints:
        """Where each row ends, [rows]."""
        return self.starts + self.lengths


def open_splits(folder: Path) -> dict[str, Any]:
    """The data sets in a folder that `save_to_disk` wrote, by split; one alone is called "".

    Raises:
        DataError: there is none, or it has no input_ids and labels.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(
            str(folder),
            f"this is no folder written by save_to_disk: {first_line(error)}",
            "Name such a folder, a recipe or a run folder.",
        ) from None
    splits = dict(loaded) if isinstance(loaded, DatasetDict) else {"": loaded}
    for name, split in splits.items():
        lacking = [c for c in ("input_ids", "labels") if c not in split.column_names]
        if lacking:
            raise DataError(
                os.path.join(folder, name),
                f"it has no column {' and no '.join(lacking)}; its columns are "
                f"{', '.join(split.column_names)}.",
                "Save the set after it was tokenized, as it goes into training.",
            )
    return splits


def origin_of(splits: Mapping[str, Any], row: int) -> str:
    """Where a row of all splits together comes from: its origin, or its number from 1."""
    name, at = place_of(splits, row)
    split = splits[name]
    if "origin" in split.column_names:
        return str(split[at]["origin"])
    return f"{name} row {at + 1}".strip()


def place_of(splits: Mapping[str, Any], row: int) -> tuple[str, int]:
    """The split that a row is in, and its place there, from 0."""
    ends = np.cumsum([len(split) for split in splits.values()])
    index = int(np.searchsorted(ends, row, side="right"))
    name = list(splits)[index]
    return name, row - int(ends[index]) + len(splits[name])


def batches(split: Any, tokens: int = TOKENS_PER_BATCH) -> Iterator[Batch]:
    """The rows of a data set in order, in batches of about so many tokens.

    Raises:
        DataError: a column holds something else than lists of integers.
    """
    chosen = split.select_columns([c for c in _COLUMNS if c in split.column_names])
    mean = max(chosen.data.nbytes // (8 * max(len(chosen), 1)), 1)
    for table in chosen.with_format("arrow").iter(batch_size=max(tokens // mean, 1)):
        yield _batch({name: _as_one(table.column(name)) for name in table.column_names})


def _as_one(column: Any) -> Any:
    import pyarrow as pa

    chunks = column.chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _batch(columns: Mapping[str, Any]) -> Batch:
    ids, lengths = _flat(columns["input_ids"], "input_ids", fill=-1)
    labels, label_lengths = _flat(columns["labels"], "labels", fill=IGNORE_INDEX)
    starts = np.cumsum(lengths) - lengths
    mask = None
    if "attention_mask" in columns:
        values, mask_lengths = _flat(columns["attention_mask"], "attention_mask", fill=0)
        mask = _fitted(values, mask_lengths, starts, lengths, fill=1) != 0
    cut = columns.get("num_cut")
    return Batch(
        ids=ids,
        labels=_fitted(labels, label_lengths, starts, lengths, fill=IGNORE_INDEX),
        attended=mask,
        starts=starts,
        lengths=lengths,
        label_lengths=label_lengths,
        num_cut=None if cut is None else cut.fill_null(0).to_numpy(zero_copy_only=False),
    )


def _flat(column: Any, name: str, *, fill: int) -> tuple[Ints, Ints]:
    """All values of a column of lists in a row, and how many each list has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)) or not (
        pa.types.is_integer(kind.value_type)
        or pa.types.is_boolean(kind.value_type)
        or pa.types.is_null(kind.value_type)
    ):
        raise DataError(name, f"this column holds {kind}.", "It must hold lists of integers.")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    values = column.flatten()
    if pa.types.is_null(values.type):  # all lists are empty
        values = values.cast(pa.int64())
    if values.null_count:
        values = pc.fill_null(values, fill)
    flat = values.to_numpy(zero_copy_only=False)
    if flat.dtype.kind != "i":
        flat = flat.astype(np.int64)
    return flat, lengths.astype(np.int64)


def _fitted(values: Ints, found: Ints, starts: Ints, lengths: Ints, *, fill: int) -> Ints:
    """The values of lists of other lengths, each cut or filled up to its row's length."""
    if np.array_equal(found, lengths):
        return values
    row = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(row)) - starts[row]
    at = (np.cumsum(found) - found)[row] + within
    has = within < found[row]
    fitted = np.full(len(row), fill, dtype=np.int64)
    fitted[has] = values[at[has]]
    return fitted
