import datetime
import io
import json

import pyarrow
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.reading.arrow_rows import _rows_at_once, hub_rows, is_saved, parquet_rows, saved_rows


def as_parquet(table):
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return stream


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_rows_of_parquet_bear_their_number():
    table = pyarrow.table({"q": ["一", "二"], "a": ["1", None]})
    assert list(parquet_rows(as_parquet(table), "a.parquet", 1.0)) == [
        Record({"q": "一", "a": "1"}, "a.parquet:1"),
        Record({"q": "二", "a": None}, "a.parquet:2"),
    ]


def test_many_rows_of_parquet_are_counted_on():
    table = pyarrow.table({"q": list(range(2500))})
    rows = list(parquet_rows(as_parquet(table), "a", 1.0))
    assert [row.origin for row in rows] == [f"a:{number}" for number in range(1, 2501)]
    assert rows[-1].fields == {"q": 2499}


def test_a_row_of_parquet_whose_bytes_are_no_text_is_bad():
    column = pyarrow.array([b"1", b"\xff", b"3"]).cast(pyarrow.string(), safe=False)
    bad = [*parquet_rows(as_parquet(pyarrow.table({"q": column})), "a", 1.0)]
    assert [bad[0], bad[2]] == [Record({"q": "1"}, "a:1"), Record({"q": "3"}, "a:3")]
    assert isinstance(bad[1], BadRow)
    assert bad[1].reason.startswith("this row can't be read: 'utf-8' codec can't decode byte 0xff")


def test_two_columns_of_one_name_are_refused():
    table = pyarrow.table([[1], [2]], names=["q", "q"])
    with pytest.raises(DataError, match=r"^a: two columns have one name."):
        list(parquet_rows(as_parquet(table), "a", 1.0))


@pytest.mark.parametrize("content", [b"", b"PAR1xxx", b"PAR1" + b"\0" * 99 + b"PAR1"])
def test_a_broken_parquet_file_is_refused(content):
    with pytest.raises(DataError) as caught:
        list(parquet_rows(io.BytesIO(content), "a.parquet", 1.0))
    assert caught.value.problem.startswith("this is no whole parquet file: ")
    assert caught.value.remedy == "Write or fetch it again."


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_parquet_file_never_crashes(data):
    day = datetime.datetime(2026, 1, 1)
    table = pyarrow.table({"q": ["一", "二"], "t": [day, day], "l": [[1], None]})
    content = bytearray(as_parquet(table).getvalue())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        rows = list(parquet_rows(io.BytesIO(bytes(content)), "a", 1.0))
    except DataError:
        return
    assert [row.origin for row in rows] == [f"a:{n}" for n in range(1, len(rows) + 1)]


def repeated(value, num_rows, *, as_dictionary):
    """A parquet file that holds a value once and gives it to every row."""
    column = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * num_rows, pyarrow.int32()), pyarrow.array([value])
    )
    stream = io.BytesIO()
    parquet.write_table(
        pyarrow.table({"q": column}),
        stream,
        compression="zstd",
        dictionary_pagesize_limit=2**30,
        store_schema=as_dictionary,
    )
    return stream


@pytest.mark.parametrize("as_dictionary", [True, False])
def test_a_value_that_stands_in_every_row_counts_for_every_row(as_dictionary):
    """2 MiB in 5,000 rows are 9.8 GiB, of which no more than a batch is ever held."""
    stream = repeated("x" * 2**21, 5000, as_dictionary=as_dictionary)
    assert len(stream.getvalue()) < 5000
    rows = parquet_rows(stream, "a.parquet", 0.25)
    for _ in range(128):  # 2 MiB each: a quarter of a GiB
        next(rows)
    with pytest.raises(DataError) as caught:
        next(rows)
    assert str(caught.value) == (
        "a.parquet: this file unpacks to more than 0.25 GiB.\n"
        "  If it is right, raise data.max_unpacked_gib."
    )


def test_values_within_lists_count_too():
    table = pyarrow.table({"m": [[{"content": "x" * 600}] * 2] * 3})
    with pytest.raises(DataError, match=r"this file unpacks to more than 1\.86265e-06 GiB"):
        list(parquet_rows(as_parquet(table), "a", 2000 / 2**30))
    assert len(list(parquet_rows(as_parquet(table), "a", 3600 / 2**30))) == 3


def test_a_parquet_file_of_far_more_than_its_size_is_refused():
    stream = repeated("x" * 2**25, 1, as_dictionary=False)
    with pytest.raises(DataError, match="this file unpacks to more than 200 times its size"):
        list(parquet_rows(stream, "a", 16.0))


@given(st.lists(st.text(max_size=9), max_size=200), st.integers(1, 99))
@settings(max_examples=30, deadline=None)
def test_rows_of_parquet_come_back_however_they_are_grouped(texts, group_size):
    stream = io.BytesIO()
    table = pyarrow.table({"q": pyarrow.array(texts, pyarrow.string())})
    parquet.write_table(table, stream, row_group_size=group_size)
    rows = list(parquet_rows(stream, "a", 1.0))
    assert rows == [Record({"q": text}, f"a:{n}") for n, text in enumerate(texts, start=1)]


def test_fewer_rows_are_read_at_once_where_groups_are_large():
    assert [_rows_at_once(size) for size in (0, 2**20, 2**27, 2**40)] == [64, 64, 16, 4]


def test_a_saved_folder_may_be_as_large_as_it_is_on_disk_but_not_unpack_to_more(tmp_path):
    Dataset.from_list([{"q": "x" * 1000}] * 10).save_to_disk(tmp_path / "set")
    assert len(list(saved_rows(tmp_path / "set", "set", "train", 1e-9))) == 10


def test_a_folder_of_save_to_disk_is_read_by_split(tmp_path):
    train = Dataset.from_list([{"q": "1"}, {"q": "2"}])
    DatasetDict(train=train, test=Dataset.from_list([{"q": "3"}])).save_to_disk(tmp_path / "set")
    train.save_to_disk(tmp_path / "one")
    assert is_saved(tmp_path / "set")
    assert is_saved(tmp_path / "one")
    assert not is_saved(tmp_path)
    assert list(saved_rows(tmp_path / "set", "set", "train", 1.0)) == [
        Record({"q": "1"}, "set:1"),
        Record({"q": "2"}, "set:2"),
    ]
    assert list(saved_rows(tmp_path / "set", "set", "test", 1.0)) == [Record({"q": "3"}, "set:1")]
    assert [row.origin for row in saved_rows(tmp_path / "one", "n", "any", 1.0)] == ["n:1", "n:2"]
    with pytest.raises(DataError) as caught:
        list(saved_rows(tmp_path / "set", "set", "dev", 1.0))
    assert str(caught.value) == (
        f"{tmp_path}/set: there is no split 'dev' in this folder; it holds train, test.\n"
        "  Name one of them as the split of this source."
    )


def test_a_broken_folder_of_save_to_disk_is_refused(tmp_path):
    (tmp_path / "dataset_dict.json").write_text("{")
    with pytest.raises(DataError) as caught:
        list(saved_rows(tmp_path, "n", "train", 1.0))
    assert caught.value.problem.startswith("this folder of save_to_disk can't be read: ")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_is_read_whole_or_as_a_stream(tmp_path, streaming):
    (tmp_path / "set").mkdir()
    text = "".join(json.dumps({"q": str(i), "n": {"a": [i]}}) + "\n" for i in range(3))
    (tmp_path / "set" / "train.jsonl").write_text(text)
    rows = hub_rows(str(tmp_path / "set"), "set", "train", streaming=streaming)
    assert list(rows) == [Record({"q": str(i), "n": {"a": [i]}}, f"set:{i + 1}") for i in range(3)]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_that_can_not_be_loaded_is_refused(tmp_path, streaming):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"q": 1}\n{broken')
    for split in ("train", "dev"):
        with pytest.raises(DataError) as caught:
            list(hub_rows(str(tmp_path / "set"), "set", split, streaming=streaming))
        assert caught.value.where == f"hf:{tmp_path}/set"
        assert caught.value.problem.startswith("the data set can't be loaded (")
