import contextlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.reading import encodings
from burnish.reading.encodings import LongLine
from burnish.reading.json_rows import is_list, json_lines, json_list, refuse_lone_object


def in_parts(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


def test_each_line_is_a_row_and_empty_ones_are_none():
    lines = ["\n", '{"q": "a\u2028b"}\r\n', " \r\n", '{"q": 2}']
    assert list(json_lines(lines, "a")) == [
        Record({"q": "a\u2028b"}, "a:2"),
        Record({"q": 2}, "a:4"),
    ]


def test_a_key_that_stands_twice_makes_a_row_unreadable_at_any_depth():
    line = '{"q": [{"a": 1, "b": 2, "a": 3}]}'
    reason = "this JSON can't be read: the key 'a' stands twice in one object."
    assert list(json_lines([line + "\r\n"], "a")) == [BadRow("a:1", reason, line)]
    assert list(json_list([f"[{line},\n{{}}]"], "a")) == [
        BadRow("a:1", reason, line),
        Record({}, "a:2"),
    ]


def test_a_number_of_very_many_digits_is_a_bad_row_and_the_next_is_read():
    line = f'{{"q": {"1" * 5000}}}'
    for rows in (json_lines([line, "{}"], "a"), json_list([f"[{line},\n{{}}]"], "a")):
        bad, after = rows
        assert (bad.origin, bad.text, after) == ("a:1", line, Record({}, "a:2"))
        assert bad.reason.startswith("this JSON can't be read: Exceeds the limit (4300 digits)")


@pytest.mark.parametrize(("depth", "is_bad"), [(99, False), (100, True), (2000, True)])
def test_a_row_that_is_nested_deeply_is_bad(depth, is_bad):
    line = '{"q": ' + "[" * depth + "]" * depth + "}"
    [row] = json_lines([line], "a")
    assert isinstance(row, BadRow) == is_bad
    if is_bad:
        assert row == BadRow("a:1", "this JSON is nested too deeply.", line)


def test_many_brackets_are_no_depth():
    line = json.dumps({"q": [[] for _ in range(200)], "a": "[" * 200})
    assert list(json_lines([line], "a")) == [Record(json.loads(line), "a:1")]


def test_not_a_number_and_lone_surrogates_are_read_for_the_rules_to_judge():
    [row] = json_lines(['{"a": NaN, "b": "\\ud800", "c": -Infinity}'], "a")
    assert repr(row.fields) == r"{'a': nan, 'b': '\ud800', 'c': -inf}"


def test_rows_with_bytes_of_another_encoding_are_bad():
    row = '{"q": "头\udcff"}'
    bad = ("this row's bytes are not GB18030; see \\x in its text.", '{"q": "头\\xff"}')
    assert list(json_lines([row + "\n", "{}"], "a", "GB18030")) == [
        BadRow("a:1", *bad),
        Record({}, "a:2"),
    ]
    assert list(json_list([f"[{row}, {{}}]"], "a", "GB18030")) == [
        BadRow("a:1", *bad),
        Record({}, "a:1:15"),
    ]


def test_a_line_that_was_too_long_to_hold_is_a_bad_row():
    assert list(json_lines([LongLine("{", 2**30), "{}"], "a")) == [
        BadRow("a:1", "this row has 1,073,741,824 characters; the most are 67,108,864.", "{"),
        Record({}, "a:2"),
    ]


def test_a_row_of_a_list_that_is_too_long_is_bad_and_refused_where_it_does_not_end(monkeypatch):
    monkeypatch.setattr(encodings, "MAX_ROW_CHARS", 100)
    monkeypatch.setattr(encodings, "NUM_SHOWN", 9)
    long = json.dumps({"q": "x" * 100})
    rows = list(json_list([f"[{long},\n{{}}]"], "a"))
    assert rows == [
        BadRow("a:1", "this row has 109 characters; the most are 100.", '{"q": "xx'),
        Record({}, "a:2"),
    ]
    endless = ['[{},\n {"q": "', *["x" * 2**20] * 9]
    with pytest.raises(DataError) as caught:
        list(json_list(endless, "a"))
    assert caught.value.where == "a:2"
    assert caught.value.problem == "the row that begins here has more than 100 characters."


def test_columns_are_counted_from_the_start_of_the_line():
    rows = json_list(['[{"a":1},{"a":2},\n  {"a":3},{"a":4}]'], "a")
    assert [row.origin for row in rows] == ["a:1", "a:1:10", "a:2", "a:2:11"]


def test_a_list_that_stops_early_gives_its_rows_and_then_the_fault():
    rows = json_list(['[{"a": 1},'], "a")
    assert next(rows) == Record({"a": 1}, "a:1")
    with pytest.raises(DataError, match="the list of rows is not closed; the file seems cut off"):
        next(rows)


def test_what_is_no_object_is_shown_as_it_stands():
    assert list(json_list(['[ 1e3, "x" , [1, 2],null]'], "a")) == [
        BadRow("a:1", "a row is an object; found float.", "1e3"),
        BadRow("a:1:8", "a row is an object; found str.", '"x"'),
        BadRow("a:1:14", "a row is an object; found list.", "[1, 2]"),
        BadRow("a:1:21", "a row is an object; found NoneType.", "null"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10**6])
def test_the_line_of_a_fault_does_not_depend_on_where_the_text_is_cut(size, monkeypatch):
    monkeypatch.setattr(encodings, "PIECE", size)
    text = '\n[{"a": "' + "x" * 50 + '"},\n\n  {"b":\n 1, "c"; 2}' + " " * 50 + "\n]"
    with pytest.raises(DataError) as caught:
        list(json_list(in_parts(text, size), "a"))
    assert caught.value.where == "a:5"
    assert caught.value.problem == "this is not JSON: Expecting ':' delimiter at column 8."


@pytest.mark.parametrize("text", ["", '{"a": 1}\n{"a": 2}', '{"a": 1', "nothing", '\n {"a": 1}'])
def test_what_may_be_json_lines_is_not_refused(text):
    refuse_lone_object([text], "a")
    assert not is_list([text])


@pytest.mark.parametrize("text", ["{\n", " \n{ \r\n}", '{"a":\n1}', "{"])
def test_an_object_over_several_lines_is_refused(text):
    with pytest.raises(DataError, match="its first object goes over several lines"):
        refuse_lone_object(in_parts(text, 3), "a")


def test_a_list_is_known_by_its_first_character():
    assert is_list(["\n", " \u2003", " [1"])


@given(st.text(max_size=60), st.integers(1, 70))
def test_no_text_crashes_the_reader(text, size):
    for row in json_lines(text.split("\n"), "a"):
        assert row.origin.startswith("a:")
    parts = in_parts("[" + text, size)
    assert is_list(parts)
    with contextlib.suppress(DataError):
        list(json_list(parts, "a"))
    with contextlib.suppress(DataError):
        refuse_lone_object(in_parts(text, size), "a")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=5))
def test_lines_give_back_the_objects_that_were_written(objects):
    lines = [json.dumps(value, ensure_ascii=False) for value in objects]
    assert [row.fields for row in json_lines(lines, "a")] == objects


@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_a_list_gives_back_its_rows_however_it_is_cut(values, size, indent, is_ascii):
    text = json.dumps(values, indent=indent, ensure_ascii=is_ascii)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "PIECE", size)
        rows = list(json_list(in_parts(text, size), "a"))
    assert rows == list(json_list([text], "a"))
    assert len({row.origin for row in rows}) == len(values)
    found = [r.fields if isinstance(r, Record) else json.loads(r.text) for r in rows]
    assert found == values


def test_a_number_is_shown_as_it_is_written_in_another_process_too():
    line = '{"a": 3.50, "b": 1.0e5, "c": [-0.0], "d": 7, "e": 1e999}'
    for rows in (json_lines([line], "a"), json_list([f"[{line}]"], "a")):
        (row,) = rows
        for fields in (row.fields, pickle.loads(pickle.dumps(row)).fields):
            assert fields == {"a": 3.5, "b": 100000.0, "c": [0.0], "d": 7, "e": float("inf")}
            assert [str(fields[key]) for key in "abde"] == ["3.50", "1.0e5", "7", "1e999"]
            assert str(fields["c"][0]) == "-0.0"
    assert json.dumps(row.fields["a"]) == "3.5"
