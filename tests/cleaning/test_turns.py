import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.turns import MissingPart, message_of, text_of, tools_of
from burnish.conversation import Message

CALL = {"name": "weather", "arguments": {"city": "北京"}}


def openai(**turn):
    return message_of(turn, "role", "content")


def sharegpt(**turn):
    return message_of({"from": turn.pop("speaker"), **turn}, "from", "value")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("Human", "user"),
        ("gpt", "assistant"),
        ("tool", "tool"),
        ("function", "tool"),
        ("observation", "tool"),
    ],
)
def test_roles_of_many_names_are_known(name, role):
    assert openai(role=name, content="x") == Message(role, "x")
    assert sharegpt(speaker=name, value="x") == Message(role, "x")


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "image": None}]
    assert openai(role="user", content=parts) == Message("user", "ab")


@pytest.mark.parametrize(
    "arguments", [{"city": "北京"}, '{"city": "北京"}', '{"city": "\\u5317\\u4eac"}']
)
def test_calls_are_read_with_arguments_as_json_or_as_an_object(arguments):
    function = {"name": "weather", "arguments": arguments}
    expected = Message("assistant", "", tool_calls=(CALL,))
    calls = [{"type": "function", "function": function}]
    assert openai(role="assistant", content=None, tool_calls=calls) == expected
    assert openai(role="assistant", tool_calls=[function]) == expected
    assert openai(role="assistant", content=None, function_call=function) == expected


def test_words_beside_calls_are_kept_and_several_calls_stay_in_order():
    calls = [CALL, {"name": "time", "arguments": ""}]
    assert openai(role="assistant", content="Let me see.", tool_calls=calls) == Message(
        "assistant", "Let me see.", tool_calls=(CALL, {"name": "time", "arguments": {}})
    )


def test_a_turn_without_calls_has_none():
    for none in (None, [], "", float("nan")):
        assert openai(role="user", content="x", tool_calls=none) == Message("user", "x")


def test_a_call_in_sharegpt_is_json_in_the_value():
    one = Message("assistant", "", tool_calls=(CALL,))
    assert sharegpt(speaker="function_call", value=json.dumps(CALL)) == one
    assert sharegpt(speaker="function_call", value=CALL) == one
    both = sharegpt(speaker="function_call", value=json.dumps([CALL, CALL]))
    assert both == Message("assistant", "", tool_calls=(CALL, CALL))


def test_calls_keep_their_ids():
    wrapped = {"id": "c1", "type": "function", "function": CALL}
    expected = Message("assistant", "", tool_calls=(CALL, CALL, CALL), call_ids=("c1", "7", ""))
    calls = [wrapped, {"id": 7, **CALL}, {"id": None, **CALL}]
    assert openai(role="assistant", content=None, tool_calls=calls) == expected
    assert sharegpt(speaker="function_call", value=json.dumps(calls)) == expected


def test_a_result_keeps_whose_it_is_and_another_turn_has_no_name():
    expected = Message("tool", "21", name="weather", tool_call_id="c1")
    given = {"name": "weather", "tool_call_id": "c1"}
    assert openai(role="tool", content="21", **given) == expected
    assert openai(role="function", content="21", **given) == expected
    assert sharegpt(speaker="observation", value="21", **given) == expected
    nothing = {"name": None, "tool_call_id": float("nan")}
    assert openai(role="tool", content="21", **nothing) == Message("tool", "21")
    assert openai(role="user", content="x", name="Ann") == Message("user", "x")


def reason(read, *arguments, **turn):
    with pytest.raises(MissingPart) as caught:
        read(*arguments, **turn)
    assert caught.value.rule == "unreadable"
    return caught.value.reason


def called(value):
    return reason(openai, role="assistant", tool_calls=value)


def test_what_can_not_be_read_says_why():
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert reason(openai, role="user", content=image) == (
        "a turn of this row has a part of the kind 'image_url'; only text is read."
    )
    assert reason(openai, role="user", content=["a"]).startswith(
        "a turn of this row has a part of the kind 'str'"
    )
    assert called("no list") == "tool_calls is no list in a turn of this row."
    assert called([{"function": None}]) == "a function call of this row has no name."
    assert called([{"name": " ", "arguments": {}}]) == "a function call of this row has no name."
    broken = "the arguments of a call of this row is no valid JSON."
    assert called([{"name": "f", "arguments": '{"a": '}]) == broken
    assert called([{"name": "f", "arguments": '{"a": "\\ud800"}'}]) == broken
    assert called([{"name": "f", "arguments": '{"a": NaN}'}]) == broken
    assert called([{"name": "f", "arguments": '{"a": 1, "a": 2}'}]) == broken
    assert called([{"name": "f", "arguments": "[1]"}]) == (
        "the arguments of a call are no object in this row."
    )
    assert reason(openai, role="user", content="x", tool_calls=[CALL]) == (
        "a turn of this row calls a function as 'user'."
    )
    assert reason(sharegpt, speaker="function_call", value="weather(北京)") == (
        "a function call of this row is no valid JSON."
    )
    assert reason(sharegpt, speaker="function_call", value="[]") == (
        "a function call of this row is empty."
    )
    assert reason(openai, role="tool", content="21", name={"a": 1}) == (
        "a text was expected; found dict."
    )
    for endless in (float("inf"), float("-inf")):
        assert reason(text_of, endless) == "a text was expected; found an infinite number."
    assert reason(text_of, b"x") == "a text was expected; found bytes."


SCHEMA = {"name": "weather", "parameters": {"type": "object"}}
WRAPPED = {"type": "function", "function": SCHEMA}


@pytest.mark.parametrize("value", [[SCHEMA], [WRAPPED], json.dumps([SCHEMA])])
def test_tools_get_hugging_faces_form(value):
    assert tools_of(value) == (WRAPPED,)


@pytest.mark.parametrize("value", [None, "", " ", [], "[]", float("nan")])
def test_no_tools_are_none(value):
    assert tools_of(value) == ()


def test_tools_that_are_none_say_why():
    assert reason(tools_of, "[{") == "the list of tools of this row is no valid JSON."
    assert reason(tools_of, SCHEMA) == "tools is no list of functions in this row."
    assert reason(tools_of, ["weather"]) == "a tool of this row has no name."
    assert reason(tools_of, [{"function": {}}]) == "a tool of this row has no name."


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "function", "name", "arguments", "id", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "function_call", "tool", "x"])},
        optional={
            "content": json_values,
            "tool_calls": json_values,
            "function_call": json_values,
            "name": json_values,
            "tool_call_id": json_values,
        },
    )
)
def test_any_turn_is_read_or_refused_and_can_be_written_as_json(turn):
    try:
        message = message_of(turn, "role", "content")
    except MissingPart:
        return
    written = json.loads(json.dumps(message.as_dict(), allow_nan=False))
    assert Message.from_dict(written) == message


@given(json_values | st.text())
def test_any_list_of_tools_is_read_or_refused(value):
    try:
        tools = tools_of(value)
    except MissingPart:
        return
    assert all(tool["function"]["name"].strip() for tool in tools)


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_read_under_each_of_its_names(key):
    assert openai(role="assistant", content="b", **{key: "so"}) == Message(
        "assistant", "b", reasoning_content="so"
    )
    assert openai(role="assistant", content="b", **{key: None}) == Message("assistant", "b")


@pytest.mark.parametrize(
    ("given", "train"),
    [
        ({}, True),
        ({"train": True}, True),
        ({"train": False}, False),
        ({"weight": 1}, True),
        ({"weight": 0}, False),
        ({"weight": 0.0}, False),
        ({"weight": None}, True),
        ({"train": True, "weight": 0}, True),
    ],
)
def test_an_answer_says_whether_it_is_learned(given, train):
    assert openai(role="assistant", content="b", **given).train is train
    assert message_of({"from": "gpt", "value": "b", **given}, "from", "value").train is train
    called = {"from": "function_call", "value": json.dumps(CALL), **given}
    assert message_of(called, "from", "value").train is train


def test_other_turns_may_say_that_they_are_not_learned_but_not_that_they_are():
    assert openai(role="user", content="a", train=False) == Message("user", "a")
    assert openai(role="user", content="a", weight=0) == Message("user", "a")
    assert reason(openai, role="user", content="a", train=True) == (
        "a turn of this row has train: True, but only the assistant's can be learned."
    )
    assert reason(openai, role="assistant", content="a", weight=0.5) == (
        "weight of a turn of this row is 0.5; it may be 0 or 1, false or true."
    )
    assert reason(openai, role="user", content="a", reasoning="b") == (
        "a turn of this row reasons as 'user'."
    )


texts = st.text(st.characters(codec="utf-8"), max_size=5)
identifiers = texts.filter(str.strip)
functions = st.fixed_dictionaries(
    {"name": identifiers, "arguments": st.dictionaries(texts, texts | st.integers(), max_size=2)}
)
wrapped_calls = st.fixed_dictionaries(
    {"type": st.just("function"), "function": functions}, optional={"id": identifiers}
)
given_turns = st.one_of(
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": texts},
        optional={"tool_calls": st.lists(wrapped_calls, min_size=1, max_size=3)},
    ),
    st.fixed_dictionaries(
        {"role": st.just("tool"), "content": texts},
        optional={"name": identifiers, "tool_call_id": identifiers},
    ),
)


@given(given_turns)
def test_all_that_a_turn_says_of_calls_and_results_is_kept(turn):
    message = message_of(turn, "role", "content")
    written = json.dumps(message.as_dict(), ensure_ascii=False)
    assert Message.from_dict(json.loads(written)) == message
    assert json.loads(written) == turn


def nested(depth):
    return {"name": "f", "arguments": '{"a": ' * depth + "1" + "}" * depth}


def test_arguments_of_a_hundred_levels_are_read_and_deeper_ones_refused():
    message = openai(role="assistant", tool_calls=[nested(100)])
    assert Message.from_dict(json.loads(json.dumps(message.as_dict()))) == message
    for depth in (101, 900, 950, 980, 990, 100_000):
        reason = called([nested(depth)])
        assert reason == "the arguments of a call of this row is nested too deeply."
