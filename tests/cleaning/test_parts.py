import numpy as np
import pytest

from burnish.cleaning.parts import Parts
from burnish.cleaning.row import Chunk, RowSettings, clean_chunk
from burnish.conversation import BadRow, Record
from burnish.recipe import CleanSection, Source

SETTINGS = RowSettings((Source(path="x.csv"),), CleanSection(), None, None)


def chunk(number, *lines):
    rows = [Record({"instruction": "问" * n, "output": "答" * n}, f"x.csv:{n}") for n in lines]
    return Chunk(number, 0, "alpaca", tuple(rows))


def filled(folder, *chunks):
    parts = Parts(folder / "parts")
    for one in chunks:
        parts.write(clean_chunk(one, SETTINGS))
    return parts


def test_any_row_can_be_looked_up_in_its_place(tmp_path):
    parts = filled(tmp_path, chunk(0, 2, 3, 4), chunk(1, 5), chunk(2, 6, 7))
    table = parts.table(3)
    assert len(table) == 6
    assert [parts.result(row).origin for row in (5, 0, 3, 2)] == [
        "x.csv:7",
        "x.csv:2",
        "x.csv:5",
        "x.csv:4",
    ]
    assert [r.origin for r in parts.results()] == [f"x.csv:{n}" for n in range(2, 8)]
    assert table.alive.all()
    assert table.keys.shape == (6, 16)
    assert len(np.unique(table.questions)) == 6


def test_chunks_beyond_the_last_are_left_out(tmp_path):
    parts = filled(tmp_path, chunk(0, 2), chunk(1, 3))
    assert len(parts.table(1)) == 1
    assert [r.origin for r in parts.results()] == ["x.csv:2"]


def test_only_a_whole_chunk_with_the_same_rows_counts_as_done(tmp_path):
    parts = filled(tmp_path, chunk(0, 2, 3))
    assert parts.holds(chunk(0, 2, 3))
    assert not parts.holds(chunk(0, 2, 3, 4))
    assert not parts.holds(chunk(0, 2, 4))
    assert not parts.holds(chunk(1, 2, 3))
    (tmp_path / "parts" / "000000.npz").unlink()
    assert not parts.holds(chunk(0, 2, 3))


@pytest.mark.parametrize("kind", ["jsonl", "npz", "seal"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda path, whole: path.write_bytes(whole[:-20]),
        lambda path, whole: path.write_bytes(b""),
        lambda path, whole: path.write_bytes(b"\xff" * len(whole)),
        lambda path, whole: path.write_bytes(whole[:40] + b"#\x00" + whole[42:]),
        lambda path, whole: path.unlink(),
        lambda path, whole: path.unlink() or path.mkdir(),
    ],
    ids=["truncated", "emptied", "garbage", "two bytes altered", "gone", "a folder"],
)
def test_a_chunk_of_which_a_file_is_damaged_counts_as_absent_and_is_written_anew(
    tmp_path, kind, harm
):
    one = chunk(0, 20, 30, 40)
    parts = filled(tmp_path, one)
    path = tmp_path / "parts" / f"000000.{kind}"
    whole = path.read_bytes()
    harm(path, whole)
    assert not parts.holds(one)
    if path.is_file() or not path.exists():
        parts.write(clean_chunk(one, SETTINGS))
        assert parts.holds(one)
        assert path.read_bytes() == whole


def test_what_another_version_has_cleaned_counts_as_absent(tmp_path, monkeypatch):
    parts = filled(tmp_path, chunk(0, 2, 3))
    monkeypatch.setattr("burnish.cleaning.parts.__version__", "0.0.9")
    assert not parts.holds(chunk(0, 2, 3))


def test_a_row_that_no_encoding_can_hold_is_kept_as_an_escape(tmp_path):
    parts = filled(tmp_path, Chunk(0, 0, "alpaca", (BadRow("x.csv:2", "why", "a\ud83d"),)))
    assert not parts.table(1).alive.any()
    assert parts.result(0).text == "a\ud83d"


def test_nothing_is_left_when_all_is_deleted(tmp_path):
    filled(tmp_path, chunk(0, 2)).delete()
    assert not (tmp_path / "parts").exists()
