import pytest

from burnish.cleaning.rules import first_broken_rule, same_key, show
from burnish.conversation import Conversation, Message
from burnish.recipe import CleanSection


def asked(question, answer, context=""):
    return Conversation((Message("user", question, context), Message("assistant", answer)), "a:2")


@pytest.mark.parametrize(
    ("question", "answer", "rule", "reason"),
    [
        ("", "a", "no_question", "nothing but markup or blanks stands in the question."),
        ("q", " ", "too_short", "the answer has 0 characters, fewer than 1."),
        ("q", "无", "placeholder", "the answer '无' only stands for one."),
        ("q", "N/A.", "placeholder", "the answer 'N/A.' only stands for one."),
        ("q", "<noinput>", "placeholder", "the answer '<noinput>' only stands for one."),
        ("q", "多休息，", "truncated", "the answer ends in '，', so it seems cut off."),
        ("q", "as follows: ", "truncated", "the answer ends in ':', so it seems cut off."),
        ("头痛 怎么办", "头痛  怎么办", "echo", "the answer repeats the question."),
    ],
)
def test_a_broken_rule_is_named_with_its_reason(question, answer, rule, reason):
    rejection = first_broken_rule(asked(question, answer), CleanSection())
    assert rejection is not None
    assert (rejection.origin, rejection.rule, rejection.reason) == ("a:2", rule, reason)
    assert rejection.text == f"user: {question}\nassistant: {answer}"


@pytest.mark.parametrize("answer", ["无症状。", "nanny", "No.", "略有不适", "好", "a: b"])
def test_an_answer_that_only_resembles_a_broken_one_is_kept(answer):
    assert first_broken_rule(asked("q", answer), CleanSection()) is None


def test_every_rule_can_be_switched_off():
    off = CleanSection(drop_truncated=False, drop_echo=False, drop_placeholders=False)
    assert first_broken_rule(asked("q:", "q:"), off) is None
    assert first_broken_rule(asked("q", "N/A"), off) is None


def test_the_shortest_answer_is_a_setting():
    section = CleanSection(min_answer_chars=3)
    assert first_broken_rule(asked("q", "abc"), section) is None
    assert first_broken_rule(asked("q", "ab"), section).rule == "too_short"


def test_an_answer_before_the_last_must_not_be_empty_after_repair():
    turns = (Message("user", "q"), Message("assistant", ""))
    conversation = Conversation((*turns, *asked("q", "a").messages), "a:2")
    rejection = first_broken_rule(conversation, CleanSection())
    assert rejection.reason == "nothing but markup or blanks stands in an answer before the last."


def test_conversations_are_the_same_if_only_the_width_of_blanks_differs():
    assert same_key(asked("a  b ", "c\n")) == same_key(asked("a b", "c"))
    assert same_key(asked("now here", "c")) != same_key(asked("nowhere", "c"))
    assert same_key(asked("q", "a", "x")) != same_key(asked("q", "a"))
    assert same_key(asked("q x", "a")) != same_key(asked("q", "a", "x"))


def test_a_conversation_is_shown_with_its_input():
    assert show(asked("q", "a", "c")) == "user: q\ninput: c\nassistant: a"
