"""Percentiles, bars and covering lengths, worked out by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from burnish.lengths import Bar, covering_length, histogram, percentiles

LENGTHS = st.lists(st.integers(0, 10**6), min_size=1, max_size=200)


def test_percentiles_of_one_to_a_hundred_are_lengths_that_occur():
    lengths = np.arange(1, 101)
    assert percentiles(lengths) == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}


def test_one_row_is_every_percentile():
    assert set(percentiles(np.array([7])).values()) == {7}


def test_no_rows_have_no_percentiles_and_no_bars():
    assert percentiles(np.array([], dtype=np.int64)) == {}
    assert histogram(np.array([], dtype=np.int64)) == []


def test_bars_have_one_round_width_and_the_last_takes_the_rest():
    lengths = np.array([0] * 60 + [15] * 138 + [29] + [500])
    assert histogram(lengths) == [
        *[Bar(i, i + 1, 60 if i == 0 else 138 if i == 15 else 0) for i in range(16)],
        Bar(16, None, 2),
    ]


def test_wide_lengths_get_wide_bars():
    bars = histogram(np.array([90, 410, 1_000]))
    assert {bar.stop - bar.start for bar in bars} == {50}
    assert [(bar.start, bar.count) for bar in bars if bar.count] == [(50, 1), (400, 1), (1000, 1)]


@given(LENGTHS)
def test_every_row_stands_in_one_bar(lengths):
    bars = histogram(np.array(lengths))
    assert sum(bar.count for bar in bars) == len(lengths)
    assert [bar.stop for bar in bars[:-1]] == [bar.start for bar in bars[1:]]


def test_the_covering_length_is_a_multiple_of_8_that_99_percent_do_not_exceed():
    assert covering_length(np.array([100] * 99 + [5000])) == 104
    assert covering_length(np.array([100] * 98 + [5000] * 2)) == 5000
    assert covering_length(np.array([3])) == 8


@given(LENGTHS)
def test_the_covering_length_covers(lengths):
    covered = covering_length(np.array(lengths))
    assert sum(length <= covered for length in lengths) >= 0.99 * len(lengths)
