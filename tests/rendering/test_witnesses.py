"""Checks of an answer in the text of a conversation."""

from __future__ import annotations

import re

import pytest

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.rendering.witnesses import Answer, check_marks, find_said

THINK = re.compile("</think>|<think>")
NOTHING = re.compile("(?!)")


def test_an_answer_is_found_where_it_stands_and_not_in_the_question():
    text = "Q: yes A:  yes </s>"
    answer = Answer(Message("assistant", " yes\n"), start=9, stop=19)
    assert find_said(answer, text, NOTHING) == [(11, 14)]


def test_reasoning_stands_before_the_answer():
    text = "A:<think>\nyes\n</think>\n\nyes</s>"
    told = Message("assistant", "yes", reasoning_content="yes")
    assert find_said(Answer(told, 2, len(text)), text, THINK) == [(10, 13), (24, 27)]
    written = Message("assistant", "<think>yes</think>yes")
    assert find_said(Answer(written, 2, len(text)), text, THINK) == [(10, 13), (24, 27)]


@pytest.mark.parametrize(
    "message, lacking",
    [
        (Message("assistant", "no"), "'no'"),
        (Message("assistant", "yes", reasoning_content="so"), "'so'"),
        (Message("assistant", "<think>so</think>yes"), "'so'"),
        (Message("assistant", "yes" + "s" * 50), repr("yes" + "s" * 34 + "…")),
    ],
)
def test_what_the_template_leaves_out_is_named(message, lacking):
    with pytest.raises(DataError) as caught:
        find_said(Answer(message, 2, 9), "A:yes</s>no", THINK)
    assert caught.value.problem.endswith(f"it leaves out {lacking}.")


#        0123456789012345678
TEXT = "Q:a A:one</s>Q:b A:two</s>"
SAID = [(6, 9), (19, 22)]
OUTSIDE = [(0, 4), (13, 17)]


@pytest.mark.parametrize(
    "marked",
    [
        [(6, 9), (19, 22)],
        [(4, 13), (17, 26)],
        [(6, 13), (19, 26)],
    ],
)
def test_marks_may_begin_with_the_opening_and_end_with_the_end_token(marked):
    check_marks(TEXT, SAID, OUTSIDE, marked)


@pytest.mark.parametrize(
    "marked, problem",
    [
        ([(6, 9)], "leave out the answer 'two'"),
        ([(6, 9), (20, 22)], "leave out the answer 'two'"),
        ([(0, 26)], "hold 'Q:a ', which nobody answers"),
        ([(6, 16), (19, 22)], "hold 'Q:b', which nobody answers"),
        ([], "leave out the answer 'one'"),
    ],
)
def test_marks_that_hold_less_or_more_are_refused(marked, problem):
    with pytest.raises(DataError) as caught:
        check_marks(TEXT, SAID, OUTSIDE, marked)
    assert problem in caught.value.problem
