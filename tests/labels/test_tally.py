"""Counts over batches are the counts over the whole."""

from __future__ import annotations

from datasets import Dataset

from burnish.labels import rows as rows_module
from burnish.labels import tally as tally_module
from burnish.labels.tally import tally
from burnish.labels.vocabulary import look_at_tokens
from tests.conftest import byte_tokenizer
from tests.labels.sets import masked, plain_rows


def test_findings_are_counted_over_all_splits_and_the_first_five_kept():
    rows = [masked(row, -1) for row in plain_rows()]
    splits = {"train": Dataset.from_list(plain_rows()), "test": Dataset.from_list(rows)}
    seen = tally(splits, look_at_tokens(byte_tokenizer(), None))
    assert seen.num_rows == {"train": 10, "test": 10}
    hits = seen.hits["masked_stop_token"]
    assert (hits.count, hits.first, dict(hits.tokens)) == (10, [10, 11, 12, 13, 14], {2: 10})
    assert (seen.num_answers, seen.num_stopped) == (20, 10)
    assert list(seen.hits) == ["masked_stop_token"]


def test_the_size_of_batches_changes_nothing(monkeypatch):
    split = {"": Dataset.from_list([masked(row, -1 - i % 2) for i, row in enumerate(plain_rows())])}
    known = look_at_tokens(byte_tokenizer(), None)
    whole = tally(split, known)
    monkeypatch.setattr(tally_module, "batches", lambda s: rows_module.batches(s, tokens=100))
    parts = tally(split, known)
    assert parts.hits == whole.hits
    assert parts.table.lengths.tolist() == whole.table.lengths.tolist()
    assert parts.table.supervised.tolist() == whole.table.supervised.tolist()


def test_how_much_was_cut_is_known_only_if_every_split_says_it():
    known = look_at_tokens(byte_tokenizer(), None)
    with_cut = Dataset.from_list(plain_rows())
    without = with_cut.remove_columns("num_cut")
    assert tally({"a": with_cut}, known).table.num_cut is not None
    assert tally({"a": with_cut, "b": without}, known).table.num_cut is None
