"""The page shows the ends of the set, what is faulty, and others, the same ones each time."""

from __future__ import annotations

from datasets import Dataset

from burnish.labels.examples import MOST_TOKENS, NUM_SHOWN, pick_examples
from burnish.labels.tally import tally
from burnish.labels.vocabulary import look_at_tokens
from tests.conftest import byte_tokenizer
from tests.labels.sets import masked, rendered
from tests.rendering.shapes import talk

KNOWN = look_at_tokens(byte_tokenizer(), None)


def picked(rows):
    splits = {"": Dataset.from_list(rows)}
    return pick_examples(tally(splits, KNOWN), splits)


def rows_of(lengths, max_length=5000):
    return rendered([talk("q", "x" * n) for n in lengths], byte_tokenizer(), max_length)


def test_the_longest_the_shortest_and_the_most_cut_come_with_others_up_to_twenty():
    shown = picked(rows_of(range(1, 101), max_length=110))
    by_reason = {}
    for example in shown:
        by_reason.setdefault(example.why, []).append(example.origin)
    assert by_reason["shortest"] == [f"data.jsonl:{i}" for i in (1, 2, 3, 4)]
    assert by_reason["most cut"] == [f"data.jsonl:{i}" for i in (100, 99, 98, 97)]
    assert by_reason["cut_answers"]
    assert len(shown) == NUM_SHOWN
    assert shown == picked(rows_of(range(1, 101), max_length=110))


def test_a_row_with_a_finding_is_shown_for_it():
    rows = rows_of(range(1, 60))
    rows[33] = masked(rows[33], -1)
    (faulty,) = [example for example in picked(rows) if example.why == "masked_stop_token"]
    assert faulty.origin == "data.jsonl:34"


def test_a_set_of_one_row_shows_it_once():
    assert [example.origin for example in picked(rows_of([3]))] == ["data.jsonl:1"]


def test_of_a_long_example_the_first_tokens_are_shown_and_all_are_counted():
    (example,) = picked(rows_of([3000]))
    assert len(example.input_ids) == len(example.labels) == MOST_TOKENS
    assert example.num_tokens > 3000
    assert example.num_supervised == 3001
    assert example.as_report(with_ids=False).keys() == {
        "why", "origin", "num_tokens", "num_supervised", "num_cut",
    }  # fmt: skip
    assert example.as_report(with_ids=True)["input_ids"] == example.input_ids
