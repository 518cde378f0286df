"""What of a long text is shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from burnish.auditing.excerpts import around, difference, locate, shortened, visible

SENTENCE = "头痛时要多休息，多喝水，少看手机，少熬夜，饮食要清淡，适当活动身体，心情要放松。"


def test_what_cannot_be_seen_is_written_as_its_escape_in_one_line():
    assert visible("a\u3000b\u200bc\x1b[31md\r\ne\nf") == r"a\u3000b\u200bc\u001b[31md⏎e⏎f"
    assert visible("\U000e0041") == r"\U000e0041"
    assert visible("头痛 °C é") == "头痛 °C é"


def test_a_short_text_is_shown_whole_and_of_a_long_one_beginning_and_end():
    assert shortened(SENTENCE) == SENTENCE
    assert shortened("a" * 40 + "b" * 40) == "a" * 30 + "…" + "b" * 30


def test_a_place_is_shown_with_sixteen_characters_on_both_sides():
    text = "0123456789" * 3 + "X" + "9876543210" * 3
    assert around(text, 30, 31) == "…4567890123456789X9876543210987654…"
    assert around("aXb", 1, 2) == "aXb"


def test_only_the_start_of_a_long_place_is_shown():
    assert around("a" * 20 + "X" * 500, 20, 520) == "…" + "a" * 16 + "X" * 76 + "…"


def test_two_texts_are_shown_where_they_first_differ():
    before = f"{SENTENCE}你好。。。。明天再来看医生，后天复查，大后天出院，谢谢大家。。"
    after = f"{SENTENCE}你好。明天再来看医生，后天复查，大后天出院，谢谢大家。"
    assert difference(before, after) == (
        "…适当活动身体，心情要放松。你好。。。。明天再来看医生，后天复查，大后天…",
        "…适当活动身体，心情要放松。你好。明天再来看医生，后天复查，大后天…",
    )


def test_a_difference_at_an_end_is_shown():
    assert difference("你好 ", "你好") == ("你好 ", "你好")
    assert difference(" 你好", "你好") == (" 你好", "你好")
    assert difference("你好", "你好") == ("你好", "你好")


def test_texts_that_never_meet_again_are_shown_from_where_they_part():
    before, after = difference("同" + "甲" * 300, "同" + "乙" * 300)
    assert before == "同" + "甲" * 76 + "…"
    assert after == "同" + "乙" * 76 + "…"


def test_a_fault_is_located_by_asking_whether_pieces_have_it():
    text = f"{SENTENCE}好。。。。{SENTENCE}"
    start, stop = locate(text, lambda piece: "。。。" in piece)
    assert text[start:stop] == "。。。"
    assert start == text.index("。。。")


@given(st.text(), st.text())
def test_any_two_texts_can_be_shown(before, after):
    for shown in (*difference(before, after), shortened(before), around(before, 0, len(before))):
        assert shown.isprintable()


@given(st.text("ab", max_size=50), st.text("ab", max_size=50))
def test_what_is_looked_for_is_in_the_place_that_is_found(left, right):
    text = f"{left}XY{right}"
    start, stop = locate(text, lambda piece: "XY" in piece)
    assert text[start:stop] == "XY"
