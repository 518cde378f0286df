"""The lists of words that turn a text round."""

from burnish.cleaning.opposites import (
    BUT_FOR_ONE_LETTER,
    NEGATIONS,
    OPPOSITE_PREFIXES,
    OPPOSITES,
    UNITS,
)


def test_two_words_exclude_each_other_if_a_set_holds_both():
    assert OPPOSITES["左"] & OPPOSITES["右"]
    assert OPPOSITES["high"] & OPPOSITES["low"]
    assert OPPOSITES["乙"] & OPPOSITES["丁"]
    assert not OPPOSITES["左"] & OPPOSITES["高"]
    assert not OPPOSITES["后"] & OPPOSITES["後"]


def test_names_of_one_unit_have_one_number():
    assert UNITS["mg"] == UNITS["milligrams"] != UNITS["g"]
    assert UNITS["天"] == UNITS["日"] != UNITS["周"]


def test_what_is_taken_for_another_word_is_no_negation():
    assert not NEGATIONS & BUT_FOR_ONE_LETTER


def test_prefixes_come_in_pairs():
    assert all(len(pair) == 2 for pair in OPPOSITE_PREFIXES)
