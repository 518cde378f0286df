"""Where two lists of ids part, and how it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.parity.differences import Difference, first_difference, inserted, show_difference

ids = st.lists(st.integers(0, 3), max_size=12)


@pytest.mark.parametrize(
    "expected, found, place",
    [
        ([], [], None),
        ([1, 2], [1, 2], None),
        ([1, 2], [1, 3], Difference(1, 2, 3)),
        ([1, 2], [1], Difference(1, 2, None)),
        ([], [7], Difference(0, None, 7)),
        ([1, 2, 3], [2, 3], Difference(0, 1, 2)),
    ],
)
def test_the_first_difference_is_named_by_place_and_both_ids(expected, found, place):
    assert first_difference(expected, found) == place


@given(shared=ids, expected=ids, found=ids)
def test_whatever_two_lists_hold_they_agree_before_the_place_and_differ_there(
    shared, expected, found
):
    left, right = shared + expected, shared + found
    place = first_difference(left, right)
    if left == right:
        assert place is None
        return
    assert place.index >= len(shared)
    assert left[: place.index] == right[: place.index]
    assert place.expected == (left[place.index] if place.index < len(left) else None)
    assert place.found == (right[place.index] if place.index < len(right) else None)
    assert place.expected != place.found


@given(before=ids, block=st.lists(st.integers(4, 9), min_size=1, max_size=5), after=ids)
def test_a_block_put_anywhere_into_a_list_is_found(before, block, after):
    # The block's ids occur nowhere else, so there is one place at which it can stand.
    assert inserted(before + after, before + block + after) == block


@pytest.mark.parametrize(
    "expected, found",
    [([1, 2], [1, 2]), ([1, 2], [1]), ([1, 2, 3], [1, 9, 2, 9, 3]), ([1, 2], [3, 4, 5])],
)
def test_what_is_no_single_block_is_none(expected, found):
    assert inserted(expected, found) == []


def test_a_block_that_could_stand_at_two_places_stands_at_the_first():
    # 1 2 + (1 3 |) ... : "1 3 1 2" is either (1 3) 1 2 or 1 (3 1) 2.
    assert inserted([1, 2], [1, 3, 1, 2]) == [1, 3]


def test_both_sides_are_shown_with_their_texts_and_the_place_counts_from_one():
    shown = show_difference([65, 66, 67], [65, 90, 67], chr, chr)
    assert shown.splitlines() == [
        "token 2 differs",
        "    training saw  …'A' then 'B' (id 66) then 'C'…",
        "    found         …'A' then 'Z' (id 90) then 'C'…",
    ]


def test_a_side_that_has_ended_says_so():
    assert show_difference([65], [], chr, chr).splitlines()[2].endswith("…'' then nothing more")


def test_a_text_can_do_nothing_to_a_terminal():
    assert "\x1b" not in show_difference([65], [27], chr, chr)
