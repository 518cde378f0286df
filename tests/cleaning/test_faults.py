import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.faults import FAULTS, faults_of
from burnish.conversation import Conversation, Message

REAL = Path(__file__).parents[2].parent / "shared" / "data"
DIALOGUES = REAL / "zh-medical-dialogue" / "dialogues.gb18030.csv"


def asked(question, answer, context=""):
    return Conversation((Message("user", question, context), Message("assistant", answer)), "a:2")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("你好,世界", ("halfwidth_punctuation",)),
        ("3,000 高, ok", ()),
        ("好。。。", ("mark_runs",)),
        ("wait...", ("mark_runs",)),
        ("好！！", ()),
        ("１２０", ("fullwidth_alphanumerics",)),
        ("<b>急</b>", ("html_tags",)),
        ("a<b and c>d", ()),
        ("血压&gt;140", ("entities",)),
        ("AT&T; `&gt;`", ()),
        ("你\u3000好", ("ideographic_spaces",)),
        ("零\u200b宽", ("control_characters",)),
        ("a\r\nb", ()),
        ("\x1b[31mred", ("control_characters",)),
        ("好</s>", ("special_tokens",)),
        ("å¤´ç—›", ("mojibake",)),
        ("丢\ufffd失", ("replacement_characters",)),
        ("<p>你,好&nbsp;", ("halfwidth_punctuation", "html_tags", "entities")),
    ],
)
def test_each_fault_is_found_and_nothing_else(text, faults):
    assert faults_of(asked("q", text)) == faults


def test_a_fault_is_found_in_any_text_of_a_row_and_named_once():
    assert faults_of(asked("你,好", "你,好", "１")) == (
        "halfwidth_punctuation",
        "fullwidth_alphanumerics",
    )
    assert faults_of(Conversation((Message("text", "你,好"),), "a:1")) == ("halfwidth_punctuation",)


def test_every_fault_has_words_for_the_audit():
    assert all(fault.words and "\n" not in fault.words for fault in FAULTS.values())


@given(st.text())
def test_no_text_is_too_odd_to_be_looked_at(text):
    assert set(faults_of(asked(text, text))) <= set(FAULTS)


@pytest.mark.skipif(not DIALOGUES.is_file(), reason="the medical dialogues are not here")
@pytest.mark.parametrize("columns", [("title", "ask", "answer"), ("department", "title", "ask")])
def test_the_dialogues_have_the_faults_that_are_known(columns):
    with DIALOGUES.open(encoding="gb18030", newline="") as file:
        rows = list(csv.DictReader(file))
    question = [column for column in ("department", "title", "ask") if column in columns]
    found = Counter(
        fault
        for row in rows
        for fault in faults_of(asked("\n".join(row[c] for c in question), row["answer"]))
    )
    assert found == {
        "halfwidth_punctuation": 1153,
        "mark_runs": 36,
        "fullwidth_alphanumerics": 18,
        "entities": 2,
        "ideographic_spaces": 2,
    }
