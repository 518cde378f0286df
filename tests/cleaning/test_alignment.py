"""Where two sequences differ."""

import random

from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.alignment import common_start, differing_spans


def test_spans_are_narrowed_to_what_differs():
    left = "a b c d e f g h".split()
    right = "a b x d e f h".split()
    assert list(differing_spans(left, right)) == [(2, 3, 2, 3), (6, 7, 6, 6)]
    assert list(differing_spans(left, left)) == []
    assert list(differing_spans([], left)) == [(0, 0, 0, 8)]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_what_stands_between_spans_is_equal(left, right):
    at = to = 0
    for a, b, c, d in differing_spans(left, right):
        assert left[at:a] == right[to:c]
        at, to = b, d
    assert left[at:] == right[to:]


def test_texts_of_350_000_letters_are_compared_in_linear_work():
    # Counted in looks at the tokens, not in seconds: a span a typo, found within a few tokens.
    draw = random.Random(1)
    text = [chr(0x5000 + draw.randrange(3000)) for _ in range(350_000)]
    other = list(text)
    for at in range(100, 350_000, 1000):
        other[at] = "我"
    assert len(list(differing_spans(text, other))) == 350


def test_the_common_start_of_two_texts():
    assert common_start("abcd", "abxd") == 2
    assert common_start("ab", "abc") == 2
    assert common_start("", "abc") == 0
