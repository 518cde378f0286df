"""answers.csv: base and adapter side by side, safe in a spreadsheet."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.evaluation.answers import HEADER, Question, answer_all, safe_cell, write_answers
from burnish.generation import Sampling, decode, generate
from burnish.rendering import render_prompt
from tests.conftest import byte_tokenizer, tiny_llama


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+86 138",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =cmd|' /C calc'!A0",
        "\u3000=1",
        "\xa0@x",
        "＝1+1",
        "＋1",
        "－1",
        "＠x",
        "\tplain",
    ],
)
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text):
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["", " ", "a=b", "1-2", "头痛", "'=1", "(=1)", "x\n=1", "–1", "*"])
def test_other_text_stays_as_it_is(text):
    assert safe_cell(text) == text


@given(st.text())
def test_no_cell_begins_like_a_formula_and_nothing_else_changes(text):
    cell = safe_cell(text)
    assert cell in (text, f"'{text}")
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def question(text, *, origin="rows.json:1", reference="", context=""):
    return Question((Message("user", text, context),), origin, reference)


def test_the_file_opens_as_a_csv_with_every_character_kept(tmp_path):
    path = tmp_path / "answers.csv"
    hard = 'a "quoted", text\nover two lines; 头痛 🙂'
    questions = [question(hard, context="给定", reference="ref"), question("=1+1")]
    write_answers(path, questions, ["base, 1", "-"], ["adapter\r\n1", "=HYPERLINK()"])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == HEADER
    assert rows[1] == ["rows.json:1", hard, "给定", "ref", "base, 1", "adapter\r\n1"]
    assert rows[2] == ["rows.json:1", "'=1+1", "", "", "'-", "'=HYPERLINK()"]


def test_half_a_character_does_not_stop_the_file_from_being_written(tmp_path):
    path = tmp_path / "answers.csv"
    write_answers(path, [question("\ud800")], ["a\x00b"], ["\udfff"])
    assert "\\ud800" in path.read_text(encoding="utf-8-sig")


def test_as_many_answers_as_questions_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_answers(tmp_path / "answers.csv", [question("a")], [], ["b"])


def test_answers_are_greedy_and_do_not_depend_on_the_other_questions():
    tokenizer = byte_tokenizer()
    model = tiny_llama(len(tokenizer))
    questions = [question(text) for text in ("Hi?", "A much longer question, is it not?", "头痛")]
    together = answer_all(model, tokenizer, questions, max_new_tokens=6, what="answer")
    alone = [
        answer_all(model, tokenizer, [q], max_new_tokens=6, what="answer")[0] for q in questions
    ]
    assert together == alone
    prompt = render_prompt(questions[0].messages, tokenizer)
    (ids,) = generate(model, [prompt], Sampling(max_new_tokens=6), stop_ids=[2])
    assert together[0] == decode(ids, tokenizer)


def test_no_questions_have_no_answers():
    assert answer_all(None, byte_tokenizer(), [], max_new_tokens=4, what="answer") == []


def test_a_question_is_what_a_conversation_asks_last_with_its_tools():
    tool = {"type": "function", "function": {"name": "f"}}
    asked = (Message("user", "q", "c"),)
    conversation = Conversation((*asked, Message("assistant", "a")), "a:2", tools=(tool,))
    assert Question.of(conversation) == Question(asked, "a:2", "a", (tool,))


def test_an_answer_that_calls_a_function_is_shown_as_json():
    calls = ({"name": "f", "arguments": {"城": "罗马"}}, {"name": "g", "arguments": {}})
    turns = (Message("user", "q"), Message("assistant", "", tool_calls=calls))
    assert Question.of(Conversation(turns, "a:2")).reference == (
        '{"name": "f", "arguments": {"城": "罗马"}}\n{"name": "g", "arguments": {}}'
    )


def test_a_question_is_asked_with_the_tools_of_its_row():
    tool = {"type": "function", "function": {"name": "f"}}
    asked = Question((Message("user", "q"),), "a:2", "", (tool,))
    with pytest.raises(DataError, match="does not write tools"):
        answer_all(None, byte_tokenizer(), [asked], max_new_tokens=4, what="answer")
