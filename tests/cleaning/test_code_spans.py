import pytest

from burnish.cleaning.code_spans import outside_code, without_code


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("a `b` c", "A `b` C"),
        ("a ``b ` c`` d", "A ``b ` c`` D"),
        ("a ` b\n` c", "A ` B\n` C"),
        ("a\n```py\nb\n```\nc", "A\n```py\nb\n```\nC"),
        ("a ```b", "A ```b"),
        ("a\n~~~\nb\n~~~\nc", "A\n~~~\nb\n~~~\nC"),
        ("a~~~b", "A~~~B"),
        ("a <pre class=x>b</PRE> c <code>d</code>", "A <pre class=x>b</PRE> C <code>d</code>"),
        ("a <pre> b", "A <PRE> B"),
        ('a "<b>x</b>" c', 'A "<b>x</b>" C'),
        ('a "<b" c', 'A "<B" C'),
    ],
)
def test_code_is_not_edited(text, edited):
    assert outside_code(str.upper, text) == edited


def test_an_edit_sees_what_stands_before_and_behind_code_as_one():
    assert outside_code(lambda text: text[::-1], "ab `x` c `y`") == "`y` c `x` ba"
    assert outside_code(lambda text: "", "a `x`") == ""


def test_a_text_with_code_that_already_holds_our_marks_stays():
    assert outside_code(str.upper, "a `b` \U000f0000") == "a `b` \U000f0000"
    assert outside_code(str.upper, "a ` \U000f0000") == "A ` \U000f0000"


def test_code_can_be_taken_out():
    assert without_code("a `b` c\n```\nd\n```e") == "a  c\ne"
    assert without_code("plain") == "plain"
