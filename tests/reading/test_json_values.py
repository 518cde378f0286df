"""Values of JSON: nothing of them is lost without a word."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.reading.json_values import MAX_DEPTH, decode, decode_at, is_deep, why_no_json


def reason(text):
    with pytest.raises((ValueError, RecursionError)) as caught:
        decode(text)
    return why_no_json(caught.value)


def test_a_key_that_stands_twice_is_named_at_any_depth():
    expected = "this JSON can't be read: the key 'b' stands twice in one object."
    assert reason('{"b": 1, "a": 2, "b": 3}') == expected
    assert reason('[{"a": {"b": 1, "b": 1}}]') == expected
    assert decode('{"a": {"b": 1}, "b": 2}') == {"a": {"b": 1}, "b": 2}


def test_what_is_no_json_says_where():
    assert reason('{"a": 1,}').startswith("this is not JSON: ")
    assert reason('{"a": 1,}').endswith(" at column 9.")
    assert reason("[" * 100_000) == "this JSON is nested too deeply."
    assert reason("1" * 5000).startswith("this JSON can't be read: Exceeds the limit")


def test_numbers_are_shown_as_written_also_behind_a_copy():
    number = decode("3.50")
    assert (number, str(number), type(number).__name__) == (3.5, "3.50", "float")
    assert str(pickle.loads(pickle.dumps(number))) == "3.50"
    assert json.dumps([number]) == "[3.5]"


def test_a_value_within_a_text_comes_with_its_end_also_where_it_is_not_read():
    assert decode_at('x {"a": 1} y', 2) == ({"a": 1}, 10)
    value, end = decode_at('[{"a": 1, "a": 2}, 3]', 1)
    assert (str(value), end) == ("the key 'a' stands twice in one object", 17)
    with pytest.raises(json.JSONDecodeError):
        decode_at("x", 0)


def nested(depth):
    value = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_a_hundred_levels_are_not_deep_and_one_more_is():
    assert MAX_DEPTH == 100
    assert not is_deep(nested(100))
    assert is_deep(nested(101))
    assert is_deep([1, nested(100), 2])
    assert not is_deep("[" * 500)
    assert not is_deep(None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=9,
)


@given(values)
def test_a_value_that_python_writes_is_read_back(value):
    text = json.dumps(value)
    assert decode(text) == value
    assert decode_at(f"  {text},", 2) == (value, 2 + len(text))
