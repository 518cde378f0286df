import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.contamination import index as item_index
from burnish.contamination.index import MAX_ITEMS, Item, build_index, passage, shared_runs, words

SPELLING = (
    "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar "
    "papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu"
).split()


def spelling(first, last):
    return " ".join(SPELLING[first:last])


def runs_of(texts, index):
    return {
        row: {item: [tuple(run) for run in runs] for item, runs in by_item.items()}
        for row, by_item in shared_runs(texts, index)
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The X-ray of 2024, again!", ["the", "x", "ray", "of", "2024", "again"]),
        ("2024年体检BMI 21.5", ["2024", "年", "体", "检", "bmi", "21", "5"]),
        ("ＢＭＩ２１：正常", ["bmi21", "正", "常"]),
        ("カフェ와 인", ["カ", "フ", "ェ", "와", "인"]),
        ("naïve ученик", ["naïve", "ученик"]),
        ("A. yes (b) no c_d", ["yes", "no"]),
        ("", []),
    ],
)
def test_a_word_is_a_run_of_letters_or_one_character(text, expected):
    assert words(text) == expected


def test_a_passage_is_cut_by_words_and_keeps_what_stands_between_them():
    text = "Well: A) Heute, 天气（很好）. End"
    assert words(text) == ["well", "heute", "天", "气", "很", "好", "end"]
    assert passage(text, 1, 4) == "heute, 天气（很"


def test_a_run_says_where_it_begins_in_row_and_item_and_how_long_it_is():
    index = build_index([Item("x", "x:1", spelling(0, 26))], 13)
    text = f"one two {spelling(3, 12)} three {spelling(12, 20)} four {spelling(20, 26)}"
    assert runs_of(["nothing", text], index) == {1: {0: [(2, 3, 9), (12, 12, 8)]}}


def test_a_run_ends_where_its_text_ends():
    index = build_index([Item("x", "x:1", spelling(0, 14))], 13)
    assert runs_of([spelling(0, 7), spelling(7, 14)], index) == {}


def test_a_run_ends_where_its_item_ends():
    index = build_index([Item("x", "x:1", spelling(0, 10)), Item("x", "x:2", spelling(10, 20))], 13)
    assert runs_of([spelling(0, 20)], index) == {0: {0: [(0, 0, 10)], 1: [(10, 0, 10)]}}


def test_the_words_decide_where_hashes_collide(monkeypatch):
    monkeypatch.setattr(item_index, "_FACTOR", np.uint64(0))  # only the last word counts
    index = build_index([Item("x", "x:1", spelling(0, 16))], 13)
    other = " ".join(reversed(SPELLING))
    assert runs_of([other, spelling(0, 10)], index) == {1: {0: [(0, 0, 10)]}}


@pytest.mark.parametrize(("num_items", "is_found"), [(MAX_ITEMS, True), (MAX_ITEMS + 1, False)])
def test_words_that_more_than_ten_items_share_are_no_seed(num_items, is_found):
    items = [Item("x", f"x:{n}", f"{spelling(0, 8)} number{n}") for n in range(num_items)]
    index = build_index(items, 13)
    assert bool(runs_of([spelling(0, 8)], index)) == is_found
    # With the word that is its own, the run reaches over the boilerplate too.
    assert runs_of([f"{spelling(0, 8)} number3"], index)[0][3] == [(0, 0, 9)]


def test_a_gram_twice_in_one_item_counts_once():
    text = f"{spelling(0, 8)} and " * 20
    assert build_index([Item("x", "x:1", text)], 13).unchecked == ()


def test_items_too_short_or_of_boilerplate_alone_are_named():
    items = [Item("x", f"x:{n}", spelling(0, 9)) for n in range(MAX_ITEMS + 1)]
    items += [Item("x", "short", spelling(0, 7)), Item("x", "long", spelling(8, 16))]
    assert build_index(items, 13).unchecked == (*(f"x:{n}" for n in range(11)), "short")


def test_choices_alone_are_no_seed():
    item = Item("x", "x:1", spelling(0, 9), choices=spelling(9, 26))
    index = build_index([item], 13)
    assert runs_of([spelling(9, 26)], index) == {}
    assert runs_of([spelling(4, 16)], index) == {0: {0: [(0, 4, 12)]}}


def test_seeds_are_no_longer_than_the_ngram():
    index = build_index([Item("x", "x:1", spelling(0, 6))], 5)
    assert index.seed_words == 5
    assert runs_of([spelling(1, 6)], index) == {0: {0: [(0, 1, 5)]}}


def test_an_index_of_nothing_finds_nothing():
    assert runs_of([spelling(0, 20), ""], build_index([], 13)) == {}
    assert runs_of([], build_index([Item("x", "x:1", spelling(0, 20))], 13)) == {}


def test_an_index_comes_whole_out_of_a_pickle():
    index = build_index([Item("x", "x:1", spelling(0, 20))], 13)
    again = pickle.loads(pickle.dumps(index))
    assert runs_of([spelling(5, 15)], again) == runs_of([spelling(5, 15)], index) != {}


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=()))), st.integers(4, 50))
def test_no_text_breaks_it(texts, ngram):
    index = build_index([Item("x", str(n), text) for n, text in enumerate(texts)], ngram)
    found = dict(shared_runs(texts, index))
    for row, text in enumerate(texts):
        # A text shares itself with itself, if any of it can be looked for.
        assert str(row) in index.unchecked or any(
            run.length == len(words(text)) for run in found[row][row]
        )
