"""Languages and picked rows, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.auditing.measures import LANGUAGES, is_picked, language_of


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
