import pytest

from burnish.cleaning.rules import RULES, broken_rules, show
from burnish.conversation import Conversation, Message
from burnish.recipe import CleanSection

CALL = ({"name": "f", "arguments": {}},)


def asked(question, answer, context=""):
    return Conversation((Message("user", question, context), Message("assistant", answer)), "a:2")


def broken(conversation, **settings):
    return broken_rules(conversation, CleanSection(**settings))


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
        ("q", "好" * 50, "repetition", "98% of the answer only repeats, more than 50%."),
    ],
)
def test_a_broken_rule_is_named_with_its_reason(question, answer, rule, reason):
    assert broken(asked(question, answer)) == [(rule, reason)]


@pytest.mark.parametrize(
    ("settings", "conversation", "rule", "reason"),
    [
        (
            {"min_question_chars": 3},
            asked("q ", "a", "x"),
            "short_question",
            "the question has 2 characters, fewer than 3.",
        ),
        (
            {"min_answer_chars": 3},
            asked("q", "ab "),
            "too_short",
            "the answer has 2 characters, fewer than 3.",
        ),
        (
            {"max_answer_chars": 3},
            asked("q", "abcd"),
            "too_long",
            "the answer has 4 characters, more than 3.",
        ),
        (
            {"drop_special_tokens": True},
            asked("q", "a", "x</s>y"),
            "special_tokens",
            "a control token of a chat template, or a prompt marker, is left in it.",
        ),
        (
            {"max_repetition": 0.2},
            asked("q", "头痛发热咳嗽乏力恶心呕吐腹泻皮疹" + "好" * 10),
            "repetition",
            "35% of the answer only repeats, more than 20%.",
        ),
        (
            {"languages": ["zh", "ja"]},
            asked("q", "头 abc `头头头`"),
            "language",
            "25% of the answer's letters are in zh, ja, less than 50%.",
        ),
    ],
)
def test_a_rule_follows_its_setting(settings, conversation, rule, reason):
    assert broken(conversation, **settings) == [(rule, reason)]
    assert broken(conversation) == []


@pytest.mark.parametrize(
    "answer", ["无症状。", "nanny", "No.", "略有不适", "好", "a: b", "哈哈哈哈哈"]
)
def test_an_answer_that_only_resembles_a_broken_one_is_kept(answer):
    assert broken(asked("q", answer)) == []


def test_all_broken_rules_are_told_in_order():
    conversation = asked("", "好，" * 20)
    assert [name for name, _ in broken(conversation, max_answer_chars=9, languages=["en"])] == [
        "no_question",
        "too_long",
        "truncated",
        "repetition",
        "language",
    ]


def test_every_rule_can_be_switched_off():
    off = {"drop_truncated": False, "drop_echo": False, "drop_placeholders": False}
    assert broken(asked("q:", "q:"), **off) == []
    assert broken(asked("q", "N/A"), **off) == []
    assert broken(asked("q", "好" * 50), max_repetition=1.0) == []


def test_the_limits_themselves_are_allowed():
    limits = {"min_question_chars": 1, "min_answer_chars": 3, "max_answer_chars": 3}
    assert broken(asked("q", "abc"), **limits) == []


def test_a_share_of_letters_is_asked_of_answers_that_have_any():
    assert broken(asked("q", "120/80"), languages=["zh"]) == []
    assert broken(asked("q", "头痛 abc"), languages=["zh"], min_language_share=0.4) == []


def test_an_answer_before_the_last_must_not_be_empty_after_repair():
    turns = (Message("user", "q"), Message("assistant", ""))
    conversation = Conversation((*turns, *asked("q", "a").messages), "a:2")
    reason = "nothing but markup or blanks stands in an answer before the last."
    assert broken(conversation) == [("too_short", reason)]


def test_an_answer_that_calls_functions_may_be_empty_or_end_in_a_colon():
    for content in ("", "我来查一下："):
        call = Message("assistant", content, tool_calls=CALL)
        messages = (Message("user", "q"), call, Message("tool", "1"), Message("assistant", "a"))
        assert broken(Conversation(messages, "a:2")) == []
        assert broken(Conversation(messages[:2], "a:2"), min_answer_chars=9) == []


def test_a_passage_has_no_question_and_may_end_anywhere():
    passage = Conversation((Message("text", "第一段，"),), "a:2")
    assert broken(passage, min_question_chars=9) == []
    assert broken(passage, min_answer_chars=9)[0][0] == "too_short"


def test_a_question_may_stand_in_the_input_alone():
    assert broken(asked("", "a", "x")) == []


def test_an_empty_answer_is_no_echo_of_an_empty_question():
    assert [name for name, _ in broken(asked("", ""))] == ["no_question", "too_short"]


def test_a_rule_has_the_name_of_its_function():
    assert [rule.__name__ for rule in RULES.values()] == list(RULES)


def test_a_conversation_is_shown_with_its_input():
    assert show(asked("q", "a", "c")) == "user: q\ninput: c\nassistant: a"


def test_a_conversation_is_shown_with_its_calls_and_results():
    calling = Message(
        "assistant", "", tool_calls=CALL * 2, reasoning_content="hm", call_ids=("1", "")
    )
    result = Message("tool", "21", name="f", tool_call_id="1")
    turns = (Message("user", "q"), calling, result, Message("assistant", "a"))
    assert show(Conversation(turns, "a:2")).split("\n") == [
        "user: q",
        "assistant: ",
        "reasoning_content: hm",
        'call: {"id": "1", "name": "f", "arguments": {}}',
        'call: {"name": "f", "arguments": {}}',
        "tool: 21",
        "name: f",
        "tool_call_id: 1",
        "assistant: a",
    ]
