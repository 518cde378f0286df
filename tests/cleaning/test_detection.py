"""Which layout a file has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.detection import guess_layout, layout_of, listed
from burnish.conversation import Record
from burnish.errors import DataError
from burnish.recipe import Columns, Source


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


def test_of_very_many_columns_twenty_are_named_each_on_one_line():
    assert listed([]) == "none"
    assert listed(["a\nb", *"cdefghijklmnopqrstu"]) == (
        r"a\nb, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u"
    )
    message = missing({f"c{i}": "" for i in range(5000)})
    assert "its columns are c0, c1, c2" in message
    assert "c18, c19, ... (5,000 in all)." in message


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
