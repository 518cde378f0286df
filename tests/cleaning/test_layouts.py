import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.layouts import (
    column_value,
    guess_layout,
    layout_of,
    to_conversation,
)
from burnish.cleaning.turns import MissingPart
from burnish.conversation import Message, Record
from burnish.errors import DataError
from burnish.recipe import Columns, Source

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
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "21"),
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


@pytest.mark.parametrize(
    ("fields", "layout"),
    [
        ({"messages": []}, "messages"),
        ({"conversations": []}, "sharegpt"),
        ({"prompt": "", "completion": ""}, "prompt_completion"),
        ({"instruction": "", "output": ""}, "alpaca"),
        ({"messages": "text"}, None),
        ({"ask": "", "answer": ""}, None),
        ({"text": "Plain words."}, "text"),
        ({"text": ""}, "text"),
        ({"text": "Plain words.", "url": "x"}, None),
        ({"text": "User: u\nBot: a"}, "transcript"),
        ({"id": 3, "row": "7", "chat": "User: u\nBot: a"}, "transcript"),
        ({"chat": "User: u\nBot: a", "summary": "x"}, None),
        ({"instruction": "i", "output": "", "text": "User: u\nBot: a"}, "alpaca"),
        ({}, None),
    ],
)
def test_the_layout_is_guessed_from_the_names_of_the_columns(fields, layout):
    assert guess_layout(fields) == layout


def missing(fields, place="data.sources[0]", **source):
    with pytest.raises(DataError) as caught:
        layout_of(Source(path="raw.csv", **source), [Record(fields, "raw.csv:2")], place)
    return str(caught.value)


def test_columns_of_no_known_layout_are_listed_and_the_mapping_explained():
    fields = {"department": "", "title": "", "ask": "", "answer": ""}
    assert missing(fields, "data.sources[1]") == (
        "raw.csv:2: no answer in this row; its columns are department, title, ask, answer.\n"
        "  Name the columns under data.sources[1].columns, for example "
        "{instruction: ask, output: answer}."
    )


def test_a_layout_without_its_column_says_which_part_is_missing():
    assert missing({"output": ""}, layout="alpaca").startswith("raw.csv:2: no question in this row")
    assert missing({"instruction": ""}, layout="alpaca").startswith("raw.csv:2: no answer in this")


def test_a_mapped_column_that_is_not_there_is_named():
    assert missing({"q": "", "a": ""}, columns=Columns(instruction="ask", output="a")) == (
        "raw.csv:2: no column 'ask' in this row; its columns are q, a.\n"
        "  Name the right column under data.sources[0].columns.instruction."
    )


def test_a_mapping_without_the_answer_asks_for_it():
    assert missing({"ask": "", "answer": ""}, columns=Columns(instruction="ask")) == (
        "raw.csv:2: no answer in this row; its columns are ask, answer.\n"
        "  Name the answer's column under data.sources[0].columns, for example {output: answer}."
    )


def test_a_mapping_without_the_question_asks_for_it():
    assert missing({"ask": "", "answer": ""}, columns=Columns(output="answer")) == (
        "raw.csv:2: no question in this row; its columns are ask, answer.\n"
        "  Name the question's column under data.sources[0].columns, for example "
        "{instruction: ask}."
    )


def test_a_mapping_may_leave_out_what_already_has_its_name():
    fields = {"instruction": "", "answer": ""}
    source = Source(path="raw.csv", columns=Columns(output="answer"))
    assert layout_of(source, [Record(fields, "raw.csv:2")]) == "alpaca"


def chosen_layout(fields, **source):
    return layout_of(Source(path="raw.csv", **source), [Record(fields, "raw.csv:2")])


def test_a_column_of_text_is_a_transcript_where_it_begins_like_one():
    columns = Columns(text="body")
    assert chosen_layout({"body": "Q: q\nA: a", "x": "y"}, columns=columns) == "transcript"
    assert chosen_layout({"body": "Words.", "x": "y"}, columns=columns) == "text"
    assert chosen_layout({"body": "Words."}, columns=columns, layout="transcript") == "transcript"
    assert chosen_layout({"body": "Q: q\nA: a"}, columns=columns, layout="text") == "text"


def test_layouts_of_one_text_find_its_column_or_ask_for_it():
    assert chosen_layout({"dialog": "x", "y": "z"}, layout="transcript") == "transcript"
    assert missing({"a": "x", "b": "y"}, layout="transcript") == (
        "raw.csv:2: no column with the text in this row; its columns are a, b.\n"
        "  Name the right column under data.sources[0].columns.text."
    )
    assert missing({"body": "x"}, layout="text").startswith("raw.csv:2: no column with the text")
    assert missing({"a": "x"}, layout="text", columns=Columns(text="body")).startswith(
        "raw.csv:2: no column 'body' in this row; its columns are a."
    )


def test_a_history_column_that_is_not_there_is_named():
    fields = {"instruction": "", "output": ""}
    assert missing(fields, columns=Columns(history="before")).startswith(
        "raw.csv:2: no column 'before' in this row"
    )


def layout_of_rows(*rows, **source):
    records = [Record(fields, f"a.jsonl:{n}") for n, fields in enumerate(rows, start=1)]
    return layout_of(Source(path="a.jsonl", **source), records)


@pytest.mark.parametrize("rare", ["input", "system", "history"])
def test_a_named_column_may_stand_in_some_of_the_first_rows_alone(rare):
    columns = Columns(instruction="q", output="a", **{rare: "more"})
    short, full = {"q": "", "a": ""}, {"q": "", "a": "", "more": ""}
    assert layout_of_rows(short, full, columns=columns) == "alpaca"
    assert layout_of_rows(full, short, columns=columns) == "alpaca"
    assert layout_of_rows(*[short] * 99, full, columns=columns) == "alpaca"
    with pytest.raises(DataError, match=r"^a.jsonl:1: no column 'more' in this row; its"):
        layout_of_rows(*[short] * 100, full, columns=columns)


def test_a_first_row_without_an_answer_does_not_hide_the_layout_of_the_others():
    assert layout_of_rows({"instruction": ""}, {"instruction": "", "output": ""}) == "alpaca"
    assert layout_of_rows({"id": 1}, {"messages": []}, layout="messages") == "messages"
    assert layout_of_rows({"id": 1}, {"text": "Q: q\nA: a"}, layout="transcript") == "transcript"
    columns = Columns(text="body")
    assert layout_of_rows({"body": None}, {"body": "Q: q\nA: a"}, columns=columns) == "transcript"


def test_the_layout_is_that_of_most_of_the_rows():
    odd, usual = {"text": "Words."}, {"instruction": "", "output": ""}
    assert layout_of_rows(odd, usual, usual) == "alpaca"
    assert layout_of_rows(odd, odd, usual) == "text"


def test_rows_of_which_none_fits_are_refused_with_the_columns_of_all():
    with pytest.raises(DataError) as caught:
        layout_of_rows({"a": "x", "b": "y"}, {"b": "x", "c": "y"}, {"a": "x"})
    assert str(caught.value) == (
        "a.jsonl:1: no answer in the first 3 rows; their columns are a, b, c.\n"
        "  Name the columns under data.sources[0].columns, for example "
        "{instruction: ask, output: answer}."
    )


@given(
    st.lists(st.sets(st.sampled_from(["instruction", "input", "output", "id"])), min_size=1),
)
def test_whether_a_file_has_a_layout_depends_on_no_order_of_its_rows(rows):
    def found(rows):
        try:
            return layout_of_rows(*({name: "" for name in names} for names in rows))
        except DataError:
            return None

    fits = any({"instruction", "output"} <= names for names in rows)
    assert found(rows) == found(rows[::-1]) == ("alpaca" if fits else None)


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
