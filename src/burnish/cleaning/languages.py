"""The share of a text that is in given languages, told by its scripts alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HAN = re.compile("[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_SCRIPTS = {
    "en": re.compile("[A-Za-z\xaa\xba\xc0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]"),
    "ko": re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]"),
    "ru": re.compile("[\u0400-\u052f]"),
    "ar": re.compile("[\u0620-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc]"),
    "th": re.compile("[\u0e01-\u0e4d]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile("[\u05d0-\u05f2\ufb1d-\ufb4f]"),
}
KANA_SHARE = 0.1
"""A text is Japanese where at least so much of its Han characters and kana is kana."""


def language_share(text: str, languages: Iterable[str]) -> float | None:
    """The share of a text's letters that are in the scripts of the languages; None without letters.

    A script is not a language: `en` stands for all that is written in Latin letters, `ru` for
    Cyrillic. Han characters count as Chinese in a text without kana and as Japanese in one with
    them; one Japanese name in a Chinese text changes nothing.
    """
    letters = "".join(filter(str.isalpha, text))
    if not letters:
        return None
    return sum(_count(letters, language) for language in set(languages)) / len(letters)


def _count(letters: str, language: str) -> int:
    if language not in ("zh", "ja"):
        return len(_SCRIPTS[language].findall(letters))
    num_han, num_kana = len(_HAN.findall(letters)), len(_KANA.findall(letters))
    is_japanese = num_kana > 0 and num_kana >= KANA_SHARE * (num_han + num_kana)
    if language == "ja":
        return num_han + num_kana if is_japanese else 0
    return 0 if is_japanese else num_han
