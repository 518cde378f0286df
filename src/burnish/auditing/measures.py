"""What is measured on texts: lengths and languages. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
"""The percentiles of a report, by the name under which they stand there."""

NUM_BARS = 20
"""About so many bars of a histogram hold 99 % of the rows."""

LANGUAGES = ("zh", "en", "ja", "ko", "ru", "other", "mixed", "none")
"""What `language_of` can say."""

CHARS_LOOKED_AT = 2000
"""So many characters from the start of a text decide its language."""

_SHARE = 0.6
"""A script with this share of a text's words decides its language."""

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff\uff66-\uff9f]")
_HANGUL = re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]+")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]+")
_CYRILLIC = re.compile("[\u0400-\u052f]+")
_KNOWN = "".join(p.pattern.rstrip("+")[1:-1] for p in (_HAN, _KANA, _HANGUL, _LATIN, _CYRILLIC))
_OTHER = re.compile(rf"[^\W\d_{_KNOWN}]+")


@dataclass(frozen=True, slots=True)
class Bar:
    """How many rows are at least `start` long and shorter than `stop` (None: however long)."""

    start: int
    stop: int | None
    count: int


def percentiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    """The length that so many percent of the rows do not exceed; empty where there are none.

    Each is the length of some row: nothing is interpolated.
    """
    if not len(lengths):
        return {}
    values = np.percentile(lengths, list(PERCENTILES.values()), method="inverted_cdf")
    return {name: int(value) for name, value in zip(PERCENTILES, values, strict=True)}


def histogram(lengths: NDArray[np.int64]) -> list[Bar]:
    """Rows by length, in bars of one round width; the last bar takes all that is longer."""
    if not len(lengths):
        return []
    most = percentiles(lengths)["p99"]
    width = _round_width(most / NUM_BARS)
    num_bars = most // width + 1
    counts = np.bincount(np.minimum(lengths // width, num_bars), minlength=num_bars + 1)
    bars = [Bar(i * width, (i + 1) * width, int(counts[i])) for i in range(num_bars)]
    longer = int(counts[num_bars])
    return [*bars, Bar(num_bars * width, None, longer)] if longer else bars


def _round_width(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 … that is not below."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10


def covering_length(lengths: NDArray[np.int64], percent: int = 99) -> int:
    """The multiple of 8 that at least so many percent of the rows do not exceed."""
    longest = int(np.percentile(lengths, percent, method="inverted_cdf"))
    return max(8, -(-longest // 8) * 8)


def is_picked(index: int, total: int, wanted: int) -> bool:
    """Whether a row is among those picked, evenly spread: `wanted` of `total`, or all."""
    return wanted >= total or (index + 1) * wanted // total > index * wanted // total


def language_of(text: str) -> str:
    """One of LANGUAGES, by script: the one that most of the words are written in.

    A Chinese character or a kana is a word, so that 用Python写 is Chinese; Latin letters count as
    English, and Japanese is told by its kana. Only the first 2,000 characters are looked at.
    """
    text = text[:CHARS_LOOKED_AT]
    if text.isascii():
        return "en" if _LATIN.search(text) else "none"
    han, kana = _num(_HAN, text), _num(_KANA, text)
    is_japanese = kana * 10 >= han + kana
    words: dict[str, int] = {
        "ja" if is_japanese and kana else "zh": han + kana,
        "en": _num(_LATIN, text),
        "ko": _num(_HANGUL, text),
        "ru": _num(_CYRILLIC, text),
        "other": _num(_OTHER, text),
    }
    total = sum(words.values())
    if not total:
        return "none"
    most = max(words, key=lambda name: words[name])
    return most if words[most] >= _SHARE * total else "mixed"


def _num(pattern: re.Pattern[str], text: str) -> int:
    return len(pattern.findall(text))
