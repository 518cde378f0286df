"""What requests mean, and which are refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from burnish.conversation import Message
from burnish.generation import Sampling
from burnish.recipe import ServeSection
from burnish.serving.protocol import ChatRequest, GenerateRequest, usage

SECTION = ServeSection(
    max_new_tokens=33, temperature=0.3, top_p=0.8, repetition_penalty=1.1, system_prompt="S"
)
HI = [{"role": "user", "content": "Hi"}]


def chat(**fields):
    return ChatRequest.model_validate({"messages": HI} | fields)


def test_settings_that_a_request_leaves_out_come_from_the_recipe():
    expected = Sampling(33, temperature=0.3, top_p=0.8, repetition_penalty=1.1)
    assert chat().sampling(SECTION) == expected
    assert GenerateRequest(instruction="a").sampling(SECTION) == expected
    assert chat(temperature=None, top_p=None, max_tokens=None).sampling(SECTION) == expected


def test_settings_of_a_request_win_a_temperature_of_zero_too():
    request = chat(temperature=0, top_p=1, max_tokens=5, seed=7, repetition_penalty=2)
    assert request.sampling(SECTION) == Sampling(5, 0, 1, 2, 7)


@pytest.mark.parametrize("name", ["max_new_tokens", "max_length"])
def test_generate_takes_the_length_by_both_names(name):
    request = GenerateRequest.model_validate({"instruction": "a", name: 9})
    assert request.sampling(SECTION).max_new_tokens == 9


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_chat_takes_the_length_by_both_names(name):
    assert chat(**{name: 9}).sampling(SECTION).max_new_tokens == 9


def test_a_length_that_is_null_by_one_name_counts_by_the_other():
    assert chat(max_completion_tokens=None, max_tokens=9).sampling(SECTION).max_new_tokens == 9


def test_an_instruction_keeps_its_input_apart():
    request = GenerateRequest(instruction="Do", input="it")
    assert request.messages(None) == [Message("user", "Do", "it")]
    assert request.messages("S") == [Message("system", "S"), Message("user", "Do", "it")]


def test_the_recipes_system_prompt_stands_in_where_a_request_brings_none():
    assert chat().conversation("S") == [Message("system", "S"), Message("user", "Hi")]
    own = [{"role": "developer", "content": "D"}, *HI]
    assert chat(messages=own).conversation("S") == [Message("system", "D"), Message("user", "Hi")]


def test_content_in_parts_is_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(messages=[{"role": "user", "content": parts}])
    assert request.conversation(None) == [Message("user", "ab")]


@pytest.mark.parametrize(
    "stop, texts", [(None, []), ("x", ["x"]), (["x", "", "yz"], ["x", "yz"]), ("", [])]
)
def test_stop_texts_come_as_a_list_without_empty_ones(stop, texts):
    assert chat(stop=stop).stops() == texts


def test_unknown_fields_are_ignored():
    request = chat(user="me", logit_bias={}, tools=[], frequency_penalty=0.5, n=1)
    assert request.conversation(None) == [Message("user", "Hi")]


CALL = {"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
NO_JSON = {"function": {"name": "f", "arguments": "{a: 1}"}}
NO_OBJECT = {"function": {"name": "f", "arguments": "[1]"}}


def test_calls_that_a_client_sends_back_reach_the_template_with_their_ids():
    plain = {"function": {"name": "g", "arguments": {"b": 2}}}
    turns = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [CALL, plain]},
        {"role": "tool", "content": "x", "tool_call_id": "c1"},
    ]
    calls = ({"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {"b": 2}})
    assert chat(messages=turns).conversation(None)[1:] == [
        Message("assistant", "", tool_calls=calls, call_ids=("c1", "")),
        Message("tool", "x", tool_call_id="c1"),
    ]


def test_tools_are_kept_as_they_were_sent_and_left_out_if_none_may_be_called():
    tool = {"type": "function", "function": {"description": "d", "name": "f", "strict": True}}
    assert [*chat(tools=[tool]).shown_tools()[0]["function"]] == ["description", "name", "strict"]
    assert chat(tools=[tool], tool_choice="none").shown_tools() == []
    assert chat(tools=None, tool_choice=None, functions=None).shown_tools() == []


WRONG = [
    {"messages": []},
    {"messages": None},
    {"messages": [{"role": "wizard", "content": "a"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    {"messages": [{"role": "user", "content": "\ud800"}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
    {"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}]},
    {"messages": [{"role": "assistant", "tool_calls": [NO_JSON]}]},
    {"messages": [{"role": "assistant", "tool_calls": [NO_OBJECT]}]},
    {"tools": [{}]},
    {"tool_choice": "required"},
    {"functions": [{"name": "f"}]},
    {"n": 2},
    {"n": 0},
    {"temperature": -1},
    {"temperature": float("nan")},
    {"temperature": float("inf")},
    {"top_p": 0},
    {"top_p": 1.1},
    {"max_tokens": 0},
    {"max_tokens": 1.5},
    {"repetition_penalty": 0},
    {"repetition_penalty": 1e-40},
    {"seed": "x"},
    {"stop": 5},
    {"stop": ["\udfff"]},
]


@pytest.mark.parametrize("fields", WRONG, ids=repr)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        chat(**fields)


def test_half_a_character_is_refused_from_json_too():
    with pytest.raises(ValidationError):
        GenerateRequest.model_validate(json.loads('{"instruction": "\\ud83d"}'))


def test_usage_adds_up():
    assert usage(3, 4) == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_reasoning_that_a_client_sends_back_reaches_the_template():
    told = {"role": "assistant", "content": "b", "reasoning_content": "so"}
    more = {"role": "user", "content": "c", "reasoning_content": None}
    request = ChatRequest(messages=[*HI, told, more])
    assert request.conversation(None)[-2:] == [
        Message("assistant", "b", reasoning_content="so"),
        Message("user", "c"),
    ]


def test_whose_result_a_message_of_a_tool_is_reaches_the_template():
    given = {"content": "21", "name": "weather", "tool_call_id": "c1"}
    request = ChatRequest(messages=[*HI, {"role": "tool", **given}, {"role": "user", **given}])
    assert request.conversation(None)[-2:] == [
        Message("tool", "21", name="weather", tool_call_id="c1"),
        Message("user", "21"),
    ]
