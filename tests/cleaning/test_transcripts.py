import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.transcripts import MARKERS, is_transcript, parse_transcript
from burnish.conversation import Message


def turns(text):
    """The turns of a transcript as `role: text`, short to compare."""
    parsed = parse_transcript(text)
    return None if parsed is None else [f"{m.role}: {m.content}" for m in parsed]


@pytest.mark.parametrize(
    "text",
    [
        "<user>: Hi <bot>: Hello <user>: Why? <bot>: So.",
        "<user>：Hi\n<bot>：Hello\n<user>：Why?\n<bot>：So.",
        "[|Human|] Hi [|AI|] Hello [|Human|]Why?[|AI|]So.",
        "### Human: Hi### Assistant: Hello### Human: Why?### Assistant: So.",
        "Human: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: So.",
        "User: Hi\nBot: Hello\nUser: Why?\nBot: So.",
        "USER: Hi\r\nASSISTANT: Hello\r\nUSER: Why?\r\nASSISTANT: So.",
        "用户：Hi\n助手：Hello\n用户：Why?\n助手：So.",
        "患者：Hi\n医生：Hello\n患者： Why?\n医生： So.",
        "病人: Hi\n\u3000医生 : Hello\n病人:Why?\n医生:So.",
        "<s>问：\nHi\n答：\nHello\n<s>问：\nWhy?\n答：\nSo.\n",
        "Q: Hi\nA: Hello\nQ: Why?\nA: So.",
        "\n  Q: Hi\n  A: Hello\n\n\n  Q: Why?\n  A: So.\n",
    ],
)
def test_the_turns_of_a_transcript_are_told_apart_by_its_markers(text):
    assert turns(text) == ["user: Hi", "assistant: Hello", "user: Why?", "assistant: So."]
    assert is_transcript(text)


@pytest.mark.parametrize("pair", MARKERS)
def test_every_pair_of_markers_is_found(pair):
    user, assistant = pair
    assert turns(f"{user} a\n{assistant} b") == ["user: a", "assistant: b"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no marker at all",
        "User: only one side",
        "答：only an answer",
        "See the file Q: and A: within a line",
        "他问：多少钱？店员答：十元。",
        "Human Assistant",
        "Users: a\nBots: b",
    ],
)
def test_a_text_without_both_markers_at_the_start_of_lines_is_no_transcript(text):
    assert parse_transcript(text) is None
    assert not is_transcript(text)


def test_a_marker_within_a_line_belongs_to_what_is_said():
    assert turns("问：他问：好吗？\n答：我答：好。") == [
        "user: 他问：好吗？",
        "assistant: 我答：好。",
    ]


def test_what_a_person_quotes_does_not_change_the_markers():
    assert turns("User: What is\nQ: x\nA: y\nBot: A form.") == [
        "user: What is\nQ: x\nA: y",
        "assistant: A form.",
    ]


def test_text_before_the_first_marker_is_a_system_prompt_but_nothing_to_guess_by():
    text = "A chat between a person and a machine.\nUser: a\nBot: b"
    assert turns(text) == [
        "system: A chat between a person and a machine.",
        "user: a",
        "assistant: b",
    ]
    assert not is_transcript(text)


def test_a_transcript_that_begins_with_the_assistant_is_read_but_not_guessed():
    text = "医生：您好\n患者：头痛\n医生：多久了？"
    assert turns(text) == ["assistant: 您好", "user: 头痛", "assistant: 多久了？"]
    assert not is_transcript(text)


def test_an_empty_marker_at_the_end_is_dropped_where_it_is_the_users():
    assert turns("User: a\nBot: b\nUser:") == ["user: a", "assistant: b"]
    assert turns("<s>问：\na\n答：\n") == ["user: a", "assistant: "]


def test_line_breaks_and_code_within_a_turn_stay():
    text = "User: How?\nBot: So:\n```\nif x:\n    pass\n```\n\nDone."
    assert turns(text)[1] == "assistant: So:\n```\nif x:\n    pass\n```\n\nDone."


pieces = st.sampled_from([m for pair in MARKERS for m in pair] + ["<s>", "\n", " ", "：", "x"])


@given(st.lists(pieces | st.text(max_size=4), max_size=12).map("".join))
def test_any_text_is_read_and_nothing_but_markers_and_blanks_is_lost(text):
    parsed = parse_transcript(text)
    if parsed is None:
        return
    assert {"user", "assistant"} >= {m.role for m in parsed[1:]}
    position = 0
    for message in parsed:
        position = text.index(message.content, position) + len(message.content)
    markers = "".join(m for pair in MARKERS for m in pair) + "<s>："
    lost = set(text) - set("".join(m.content for m in parsed)) - set(markers)
    assert all(character.isspace() for character in lost)


WORDS = st.text(st.characters(blacklist_categories=["C", "Z"], blacklist_characters=":：<>[|]#"))


@given(
    st.sampled_from(MARKERS),
    st.lists(st.tuples(WORDS.filter(bool), WORDS.filter(bool)), min_size=1, max_size=5),
)
def test_a_written_transcript_is_read_back(pair, said):
    user, assistant = pair
    text = "\n".join(f"{user} {question}\n{assistant} {answer}" for question, answer in said)
    expected = [
        message
        for question, answer in said
        for message in (Message("user", question), Message("assistant", answer))
    ]
    assert parse_transcript(text) == tuple(expected)
