"""Lengths, percentiles and languages, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.auditing.measures import (
    LANGUAGES,
    Bar,
    covering_length,
    histogram,
    is_picked,
    language_of,
    percentiles,
)

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


@given(st.integers(1, 3000), st.integers(1, 300))
def test_the_picked_rows_are_as_many_as_wanted_and_evenly_spread(total, wanted):
    picked = [index for index in range(total) if is_picked(index, total, wanted)]
    assert len(picked) == min(total, wanted)
    gaps = np.diff(picked)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("头痛要多休息，多喝水。", "zh"),
        ("可以用Python的pandas库读取CSV文件。", "zh"),
        ("頭痛時要多休息。", "zh"),
        ("Rest, and drink water.", "en"),
        ("Reposez-vous et buvez de l'eau, déjà.", "en"),
        ("よく休んで、水を飲んでください。", "ja"),
        ("日本語の文章", "ja"),
        ("충분히 쉬고 물을 많이 마시세요.", "ko"),
        ("Отдыхайте и пейте воду.", "ru"),
        ("พักผ่อนให้เพียงพอ", "other"),
        ("ارتح واشرب الماء", "other"),
        ("The word for head is 头, for water 水, for rest 休息, for warm 温暖.", "en"),
        ("休息 rest 喝水 drink water warm", "mixed"),
        ("42 + 1 = 43", "none"),
        ("…… 42。", "none"),
        ("", "none"),
    ],
)
def test_the_script_of_most_words_decides_the_language(text, language):
    assert language_of(text) == language


@given(st.text())
def test_any_text_has_one_of_the_languages(text):
    assert language_of(text) in LANGUAGES
