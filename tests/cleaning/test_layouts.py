import pytest

from burnish.cleaning.layouts import MissingPart, guess_layout, layout_of, to_conversation
from burnish.conversation import Message, Record
from burnish.errors import DataError
from burnish.recipe import Columns, Source


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
        ({}, None),
    ],
)
def test_the_layout_is_guessed_from_the_names_of_the_columns(fields, layout):
    assert guess_layout(fields) == layout


def missing(fields, place="data.sources[0]", **source):
    with pytest.raises(DataError) as caught:
        layout_of(Source(path="raw.csv", **source), Record(fields, "raw.csv:2"), place)
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
    assert layout_of(source, Record(fields, "raw.csv:2")) == "alpaca"
