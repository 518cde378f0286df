import json
from pathlib import Path

import pytest

from burnish.cleaning.detection import guess_layout
from burnish.cleaning.layouts import column_value, to_conversation
from burnish.cleaning.turns import MissingPart
from burnish.conversation import Message, Record
from burnish.recipe import Columns

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def turns_of(layout, fields, columns=None):
    return to_conversation(Record(fields, "a:2"), layout, columns).messages


def test_alpaca_keeps_the_input_apart():
    assert turns_of("alpaca", {"instruction": "i", "input": "c", "output": "o"}) == (
        Message("user", "i", "c"),
        Message("assistant", "o"),
    )


def test_alpaca_takes_a_system_prompt_and_an_input_without_instruction():
    assert turns_of("alpaca", {"system": "s", "instruction": " ", "input": "c", "output": "o"}) == (
        Message("system", "s"),
        Message("user", "c"),
        Message("assistant", "o"),
    )


def test_columns_are_mapped_and_lists_of_columns_joined_by_line_breaks():
    columns = Columns(instruction=["title", "ask"], output="answer", system="dep", input="age")
    fields = {"dep": "内科", "title": "t", "ask": "a", "answer": 5, "age": float("nan")}
    assert turns_of("alpaca", fields, columns) == (
        Message("system", "内科"),
        Message("user", "t\na"),
        Message("assistant", "5"),
    )
    assert turns_of("alpaca", {**fields, "title": None}, columns)[1] == Message("user", "a")


ALPACA = {"instruction": "i", "output": "o"}


@pytest.mark.parametrize("history", [[["q", "a"], ["r", 2]], '[["q", "a"], ["r", "2"]]'])
@pytest.mark.parametrize("columns", [None, Columns(system="system"), Columns(history="history")])
def test_earlier_turns_of_a_history_come_before_the_instruction(history, columns):
    fields = {**ALPACA, "system": "s", "history": history}
    assert turns_of("alpaca", fields, columns) == (
        Message("system", "s"),
        Message("user", "q"),
        Message("assistant", "a"),
        Message("user", "r"),
        Message("assistant", "2"),
        Message("user", "i"),
        Message("assistant", "o"),
    )


def test_a_history_under_another_name_is_named():
    fields = {**ALPACA, "before": [("q", "a")], "history": [["x", "y"]]}
    assert turns_of("alpaca", fields, Columns(history="before"))[0] == Message("user", "q")


@pytest.mark.parametrize("history", [None, "", "[]", [], float("nan"), "hypertension", ["a", "b"]])
def test_a_history_that_holds_no_pairs_is_no_earlier_turn(history):
    assert len(turns_of("alpaca", {**ALPACA, "history": history})) == 2


def test_messages_take_roles_of_both_kinds():
    turns = [
        {"role": "system", "content": "s"},
        {"role": "User", "content": "u"},
        {"from": "gpt", "value": "a"},
    ]
    assert turns_of("messages", {"messages": turns}) == (
        Message("system", "s"),
        Message("user", "u"),
        Message("assistant", "a"),
    )


def test_sharegpt_has_several_turns_and_a_system_prompt_beside_them():
    turns = [
        {"from": "human", "value": "u1"},
        {"from": "gpt", "value": "a1"},
        {"from": "human", "value": "u2"},
        {"from": "gpt", "value": "a2"},
    ]
    assert turns_of("sharegpt", {"conversations": turns, "system": "s"}) == (
        Message("system", "s"),
        Message("user", "u1"),
        Message("assistant", "a1"),
        Message("user", "u2"),
        Message("assistant", "a2"),
    )


CALL = {"name": "weather", "arguments": {"city": "Rome"}}
SCHEMA = {"name": "weather", "parameters": {"type": "object"}}


def test_messages_hold_calls_results_and_tools():
    turns = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "21"},
        {"role": "assistant", "content": "a"},
    ]
    fields = {"messages": turns, "tools": [{"type": "function", "function": SCHEMA}]}
    conversation = to_conversation(Record(fields, "a:2"), "messages", None)
    assert conversation.messages == (
        Message("system", "s"),
        Message("user", "u"),
        Message("assistant", "", tool_calls=(CALL,), call_ids=("1",)),
        Message("tool", "21", tool_call_id="1"),
        Message("assistant", "a"),
    )
    assert conversation.tools == ({"type": "function", "function": SCHEMA},)


def test_sharegpt_holds_calls_results_and_tools():
    turns = [
        {"from": "human", "value": "u"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "21"},
        {"from": "gpt", "value": "a"},
    ]
    fields = {"conversations": turns, "tools": json.dumps([SCHEMA])}
    conversation = to_conversation(Record(fields, "a:2"), "sharegpt", None)
    assert conversation.messages == (
        Message("user", "u"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "21"),
        Message("assistant", "a"),
    )
    assert conversation.tools == ({"type": "function", "function": SCHEMA},)


def test_a_conversation_may_end_with_a_call_and_have_two_questions_in_a_row():
    turns = [
        {"role": "user", "content": "u"},
        {"role": "user", "content": "v"},
        {"role": "assistant", "tool_calls": [CALL]},
    ]
    assert [m.role for m in turns_of("messages", {"messages": turns})] == [
        "user",
        "user",
        "assistant",
    ]


def test_of_preference_data_the_chosen_answer_is_taken():
    fields = {
        "conversations": [{"from": "human", "value": "u"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    }
    assert turns_of("sharegpt", fields) == (Message("user", "u"), Message("assistant", "good"))


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({"text": "User: u\nBot: a"}, None),
        ({"dialogue": "User: u\nBot: a", "topic": "x"}, None),
        ({"id": 3, "whatever": "User: u\nBot: a", "note": " "}, None),
        ({"text": "x", "chat": "User: u\nBot: a"}, Columns(text="chat")),
    ],
)
def test_a_transcript_stands_in_one_text_column(fields, columns):
    expected = (Message("user", "u"), Message("assistant", "a"))
    assert turns_of("transcript", fields, columns) == expected


def test_a_passage_is_one_message_of_nobody():
    assert turns_of("text", {"text": " a\nb "}) == (Message("text", " a\nb "),)
    assert turns_of("text", {"body": "b"}, Columns(text="body")) == (Message("text", "b"),)


def test_prompt_and_completion_are_texts_or_lists_of_messages():
    expected = (Message("user", "p"), Message("assistant", "c"))
    assert turns_of("prompt_completion", {"prompt": "p", "completion": "c"}) == expected
    lists = {
        "prompt": [{"role": "user", "content": "p"}],
        "completion": [{"role": "assistant", "content": "c"}],
    }
    assert turns_of("prompt_completion", lists) == expected


USER = {"role": "user", "content": "u"}


@pytest.mark.parametrize(
    ("layout", "fields", "rule", "reason"),
    [
        (
            "alpaca",
            {"instruction": "", "output": "o"},
            "no_question",
            "there is no question in this row.",
        ),
        (
            "alpaca",
            {"instruction": "i", "output": " \u3000"},
            "no_answer",
            "the answer of this row is empty.",
        ),
        ("alpaca", {"instruction": "i"}, "no_answer", "the answer of this row is empty."),
        (
            "alpaca",
            {"instruction": "i", "output": float("nan")},
            "no_answer",
            "the answer of this row is empty.",
        ),
        (
            "alpaca",
            {"instruction": "i", "output": ["o"]},
            "unreadable",
            "a text was expected; found list.",
        ),
        (
            "alpaca",
            {"instruction": "i", "output": "\ud83d"},
            "unreadable",
            "a text holds half a character (a lone surrogate).",
        ),
        (
            "messages",
            {"messages": [USER]},
            "no_answer",
            "the conversation does not end with the assistant.",
        ),
        (
            "messages",
            {"messages": [USER, {"role": "assistant", "content": None}, USER] * 2},
            "no_answer",
            "the conversation does not end with the assistant.",
        ),
        (
            "messages",
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": ""},
                    USER,
                    {"role": "assistant", "content": "a"},
                ]
            },
            "no_answer",
            "the answer of this row is empty.",
        ),
        ("messages", {"messages": []}, "no_question", "there is no question in this row."),
        (
            "messages",
            {
                "messages": [
                    {"role": "assistant", "content": "hi"},
                    USER,
                    {"from": "gpt", "value": "a"},
                ]
            },
            "no_question",
            "the assistant speaks before any question.",
        ),
        (
            "alpaca",
            {**ALPACA, "history": [["q", ""]]},
            "no_answer",
            "the answer of this row is empty.",
        ),
        (
            "alpaca",
            {**ALPACA, "history": '[["q", "a"'},
            "unreadable",
            "the history of this row is no valid JSON.",
        ),
        (
            "alpaca",
            {**ALPACA, "history": [["q", "a"], ["r"]]},
            "unreadable",
            "the history is no list of [question, answer] pairs.",
        ),
        (
            "sharegpt",
            {"conversations": [], "tools": "hammer"},
            "no_question",
            "there is no question in this row.",
        ),
        (
            "transcript",
            {"text": "User: u"},
            "unreadable",
            "no turns of two sides, such as `User:` and `Bot:`, stand in this text.",
        ),
        (
            "transcript",
            {"text": "User: u\nBot: "},
            "no_answer",
            "the answer of this row is empty.",
        ),
        ("transcript", {"a": "x", "b": "y"}, "no_text", "there is no text in this row."),
        ("text", {"text": " \n"}, "no_text", "there is no text in this row."),
        ("text", {"text": None}, "no_text", "there is no text in this row."),
        ("messages", {"messages": None}, "unreadable", "messages is no list of turns in this row."),
        ("messages", {"messages": ["u"]}, "unreadable", "a turn of this row is no object."),
        (
            "messages",
            {"messages": [{"role": "boss", "content": "u"}]},
            "unreadable",
            "a turn of this row has the unknown role 'boss'.",
        ),
        (
            "sharegpt",
            {"conversations": "x"},
            "unreadable",
            "conversations is no list of turns in this row.",
        ),
    ],
)
def test_a_row_that_makes_no_conversation_says_why(layout, fields, rule, reason):
    with pytest.raises(MissingPart) as caught:
        turns_of(layout, fields)
    assert (caught.value.rule, caught.value.reason) == (rule, reason)


def test_the_value_of_a_column_is_text():
    record = Record({"patient": 12, "topic": "内科", "empty": None, "list": [1]}, "a:2")
    assert column_value(record, "patient") == "12"
    assert column_value(record, "topic") == "内科"
    assert column_value(record, "empty") == ""
    with pytest.raises(MissingPart, match="there is no column 'other' in this row"):
        column_value(record, "other")
    with pytest.raises(MissingPart, match="a text was expected; found list"):
        column_value(record, "list")


@pytest.mark.skipif(not REAL.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "layout", "num_unanswered"),
    [
        ("general/sharegpt_zh_1K_format.jsonl", "sharegpt", 7),
        ("zh-medical-dialogue/sharegpt_1k.jsonl", "sharegpt", 0),
        ("preference/dpo_zh_demo.json", "sharegpt", 0),
        ("preference/dpo_en_demo.json", "sharegpt", 0),
        ("preference/kto_en_demo.json", "messages", 0),
    ],
)
def test_real_conversations_keep_all_their_turns(name, layout, num_unanswered):
    text = (REAL / name).read_text(encoding="utf-8")
    rows = json.loads(text) if name.endswith(".json") else map(json.loads, text.split("\n")[:-1])
    unanswered = []
    for fields in rows:
        assert guess_layout(fields) == layout
        raw = [*(fields.get("messages") or fields["conversations"])]
        raw += [fields["chosen"]] if "chosen" in fields else []
        try:
            turns = turns_of(layout, fields)
        except MissingPart as missing_part:
            unanswered.append((missing_part.rule, raw[-1]["from"]))
        else:
            said = [turn.get("content", turn.get("value")) for turn in raw]
            assert [turn.content for turn in turns] == said
    assert unanswered == [("no_answer", "human")] * num_unanswered
