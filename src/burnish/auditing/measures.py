"""What is measured on texts: languages, and which of many rows to look at. Pure functions."""

from __future__ import annotations

import re

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
