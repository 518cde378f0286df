import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.json_rows import json_lines, json_list, refuse_lone_object
from burnish.conversation import BadRow, Record
from burnish.errors import DataError


def test_lines_are_counted_at_line_feeds_only_and_empty_ones_are_no_rows():
    assert list(json_lines('\n{"q": "a\u2028b"}\r\n \n{"q": 2}', "a")) == [
        Record({"q": "a\u2028b"}, "a:2"),
        Record({"q": 2}, "a:4"),
    ]


def test_a_key_that_stands_twice_makes_a_row_unreadable_at_any_depth():
    assert list(json_lines('{"q": [{"a": 1, "b": 2, "a": 3}]}', "a")) == [
        BadRow(
            "a:1",
            "this JSON can't be read: the key 'a' stands twice in one object.",
            '{"q": [{"a": 1, "b": 2, "a": 3}]}',
        )
    ]


def test_columns_are_counted_from_the_start_of_the_line():
    rows = json_list('[{"a":1},{"a":2},\n  {"a":3},{"a":4}]', "a")
    assert [row.origin for row in rows] == ["a:1", "a:1:10", "a:2", "a:2:11"]


def test_a_list_that_stops_early_gives_its_rows_and_then_the_fault():
    rows = json_list('[{"a": 1},', "a")
    assert next(rows) == Record({"a": 1}, "a:1")
    with pytest.raises(DataError, match="the list of rows is not closed; the file seems cut off"):
        next(rows)


@pytest.mark.parametrize("text", ["", '{"a": 1}\n{"a": 2}', '{"a": 1', "nothing", '\n {"a": 1}'])
def test_what_may_be_json_lines_is_not_refused(text):
    refuse_lone_object(text, "a")


@given(st.text(max_size=60))
def test_no_text_crashes_the_reader(text):
    for row in json_lines(text, "a"):
        assert row.origin.startswith("a:")
    with contextlib.suppress(DataError):
        list(json_list("[" + text, "a"))


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3), max_size=5))
def test_lines_give_back_the_objects_that_were_written(objects):
    text = "\n".join(json.dumps(value, ensure_ascii=False) for value in objects)
    assert [row.fields for row in json_lines(text, "a")] == objects
