"""How much of a text only repeats what stands right before it (`好好好好好…`)."""

from __future__ import annotations

import re

from burnish.cleaning.code_spans import without_code

LONGEST_UNIT = 60
"""The longest stretch, in characters, whose repetition is seen."""

FEWEST_TIMES = 4
"""So many times in a row a unit must stand; three times is emphasis."""

_GRAM = 4
_FEWEST_REPEATED = 9
_TABLE_ROW = re.compile(r"^[ \t]*\|.*$", re.MULTILINE)


def repeated_share(text: str, worth_knowing: float = 0.0) -> float:
    """The share of the characters that repeat a unit standing right before them, from 0 to 1.

    A unit has at most 60 characters, holds a letter, and stands four or more times in a row, so
    that `----`, dotted lines and `0000` are no repetition. Fewer than 9 repeated characters do not
    count (`哈哈哈哈`). Code and rows of Markdown tables are left out. Takes time in proportion to
    the length.

    Args:
        text: what to look at.
        worth_knowing: a share below this may come out as 0, which is quicker.
    """
    text = without_code(text)
    if "|" in text:
        text = _TABLE_ROW.sub("", text)
    if len(text) < _FEWEST_REPEATED or _at_most(text, worth_knowing * len(text)):
        return 0.0
    return min(1.0, _num_repeated(text) / len(text))


def _at_most(text: str, limit: float) -> bool:
    """Whether surely no more than so many characters repeat; quick."""
    # A character that repeats is not the first of its kind.
    if len(text) - len(set(text)) <= limit:
        return True
    # A repetition of n characters holds n - 3 grams that occurred before, and n is 9 or more.
    num_grams = len(text) - _GRAM + 1
    num_again = num_grams - len({text[i : i + _GRAM] for i in range(num_grams)})
    return num_again * _FEWEST_REPEATED <= limit * (_FEWEST_REPEATED - _GRAM + 1)


def _num_repeated(text: str) -> int:
    """The characters in stretches in which each gram stands once more at one same distance."""
    last: dict[str, int] = {}
    total = start = distance = 0
    for position in range(len(text) - _GRAM + 1):
        gram = text[position : position + _GRAM]
        now = position - last.get(gram, -len(text))
        last[gram] = position
        if now != distance:
            total += _stretch(text, start, position, distance)
            start, distance = position, now
    return total + _stretch(text, start, len(text) - _GRAM + 1, distance)


def _stretch(text: str, start: int, end: int, distance: int) -> int:
    """How many characters repeat in a stretch of equal distance; 0 where it does not count."""
    length = end - start + _GRAM - 1
    if not 0 < distance <= LONGEST_UNIT:
        return 0
    if length < max(_FEWEST_REPEATED, (FEWEST_TIMES - 1) * distance):
        return 0
    return length if any(c.isalpha() for c in text[start : start + distance]) else 0
