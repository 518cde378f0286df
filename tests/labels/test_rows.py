"""Saved sets become flat arrays, whatever kinds of lists they hold."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from burnish.conversation import IGNORE_INDEX
from burnish.errors import DataError
from burnish.labels.rows import batches, open_splits, origin_of, place_of

ROWS = {"input_ids": [[1, 2, 3], [], [4]], "labels": [[-100, 2, 3], [], [4]]}


def test_rows_stand_one_behind_the_other():
    (batch,) = batches(Dataset.from_dict(ROWS))
    assert batch.ids.tolist() == [1, 2, 3, 4]
    assert batch.labels.tolist() == [-100, 2, 3, 4]
    assert (batch.starts.tolist(), batch.lengths.tolist()) == ([0, 3, 3], [3, 0, 1])
    assert batch.ends.tolist() == [3, 3, 4]
    assert (batch.attended, batch.num_cut) == (None, None)


def test_several_batches_have_all_rows_in_order_also_of_a_shuffled_set():
    data = Dataset.from_dict({"input_ids": [[i] * 4 for i in range(50)]})
    data = data.map(lambda row: {"labels": row["input_ids"]}).select(range(49, -1, -1))
    found = [batch.ids.tolist() for batch in batches(data, tokens=10)]
    assert len(found) > 10
    assert [i for ids in found for i in ids] == [i for i in range(49, -1, -1) for _ in range(4)]


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint16"])
def test_any_width_of_integer_is_read(kind):
    features = Features({"input_ids": List(Value(kind)), "labels": List(Value("int64"))})
    (batch,) = batches(Dataset.from_dict(ROWS, features=features))
    assert batch.ids.tolist() == [1, 2, 3, 4]
    assert batch.ids.dtype.kind == "i"


def test_large_and_fixed_lists_are_read_too():
    for kind in (pa.large_list(pa.int64()), pa.list_(pa.int64(), 2)):
        column = pa.array([[1, 2], [3, 4]], kind)
        data = Dataset(pa.table({"input_ids": column, "labels": column}))
        (batch,) = batches(data)
        assert batch.ids.tolist() == [1, 2, 3, 4]
        assert batch.lengths.tolist() == [2, 2]


def test_labels_of_another_length_are_cut_or_filled_and_their_length_kept():
    rows = {"input_ids": [[1, 2, 3], [4, 5]], "labels": [[1], [4, 5, 6]]}
    (batch,) = batches(Dataset.from_dict(rows))
    assert batch.labels.tolist() == [1, IGNORE_INDEX, IGNORE_INDEX, 4, 5]
    assert batch.label_lengths.tolist() == [1, 3]


def test_rows_and_values_that_are_null_are_empty():
    rows = {"input_ids": [None, [7, None]], "labels": [None, [7, None]]}
    (batch,) = batches(Dataset.from_dict(rows))
    assert batch.lengths.tolist() == [0, 2]
    assert (batch.ids.tolist(), batch.labels.tolist()) == ([7, -1], [7, IGNORE_INDEX])


def test_a_column_of_something_else_is_refused():
    data = Dataset.from_dict({"input_ids": ["text"], "labels": [[1]]})
    with pytest.raises(DataError, match="input_ids: this column holds string"):
        list(batches(data))


def test_a_folder_with_splits_and_one_without_open(tmp_path):
    data = Dataset.from_dict(ROWS)
    data.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "two"))
    assert [*open_splits(tmp_path / "one")] == [""]
    assert [*open_splits(tmp_path / "two")] == ["train", "test"]


def test_a_folder_of_something_else_and_one_without_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match="no folder written by save_to_disk"):
        open_splits(tmp_path)
    Dataset.from_dict({"input_ids": [[1]], "text": ["a"]}).save_to_disk(str(tmp_path / "x"))
    with pytest.raises(DataError, match="no column labels; its columns are input_ids, text"):
        open_splits(tmp_path / "x")


def test_a_row_of_all_splits_has_its_place_and_origin():
    splits = {
        "train": Dataset.from_dict(ROWS),
        "empty": Dataset.from_dict({"input_ids": [], "labels": []}),
        "test": Dataset.from_dict(ROWS | {"origin": ["a:1", "a:2", "a:3"]}),
    }
    assert place_of(splits, 2) == ("train", 2)
    assert place_of(splits, 3) == ("test", 0)
    assert origin_of(splits, 2) == "train row 3"
    assert origin_of(splits, 4) == "a:2"
    assert origin_of({"": Dataset.from_dict(ROWS)}, 0) == "row 1"
