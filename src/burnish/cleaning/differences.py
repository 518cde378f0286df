"""Whether what differs between two nearly equal texts changes what they say.

The texts are taken apart into words, single letters of other scripts, numbers and signs, and laid
side by side. What stands between equal runs is a span. A span tells if numbers, their units,
comparisons, negations or options are not the same on both sides, or if an opposite stands for
another (左/右, high/low). In doubt it tells. Two things are taken for typos, because noisy copies
are full of them: a word of which one letter differs and which is then none that burnish knows, and
a Chinese numeral or an opposite that was lost, not replaced. Two texts say different things if more
spans tell than are mere slips of a letter; with as many slips, one is a damaged copy of the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from burnish.cleaning.alignment import REACH, common_start, differing_spans
from burnish.cleaning.opposites import (
    BUT_FOR_ONE_LETTER,
    NEGATING_PREFIXES,
    NEGATIONS,
    OPPOSITE_PREFIXES,
    OPPOSITE_SUFFIXES,
    OPPOSITES,
    UNITS,
)

AROUND = 32
"""So many equal characters around what differs are kept: a unit is read with its number."""

_TOKEN = re.compile(
    # A number with its sign; a sign behind a word or a number joins or subtracts.
    r"(?:(?<![\w)）\]%])[-−+±])?\d+(?:[.,:/]\d+)*"
    r"|[零一二两三四五六七八九十百千万亿半]+"
    r"|[a-z\u00c0-\u024f]+(?:['’][a-z]+)?"
    r"|[<>≤≥≠＜＞=≈+\-−±×÷*/^%‰℃℉°$¥€£]"
    r"|[^\W_]",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(?:^|(?<=[\n。；;！？!?.])[,，]?)[ \t]*[（(]?\d{1,2}[.、)）．。](?=[^\d])")
"""The number of an item in a list, which says nothing."""

_NUMERALS = frozenset("零一二两三四五六七八九十百千万亿半")
_MULTIPLIERS = frozenset("零十百千万亿半")
_COMPARISONS = frozenset("<>≤≥≠＜＞=≈")
_OPERATORS = frozenset("+-−±×÷*/^")
_CUES = frozenset(
    "option options answer answers choice choices type vitamin group hepatitis plan class grade "
    "part section case item is be not and or".split()
)
_MEASURES = frozenset("次天日周月年岁片粒颗支瓶袋包个种级期倍度克毫分小点")
_BEHIND_OPTIONS = frozenset("is are was were and or has".split())


@dataclass(frozen=True, slots=True)
class Differences:
    """In how many places two texts differ; those of several parts can be added.

    Attributes:
        num_telling: places that change what is said.
        num_slips: places where a letter was changed, lost or won and no more.
    """

    num_telling: int = 0
    num_slips: int = 0

    def __add__(self, other: Differences) -> Differences:
        return Differences(self.num_telling + other.num_telling, self.num_slips + other.num_slips)

    @property
    def change_meaning(self) -> bool:
        """Whether more places change what is said than were damaged by slips."""
        return self.num_telling > self.num_slips


def differences(left: str, right: str, *, is_short: bool = False) -> Differences:
    """In how many places two texts differ; the same with the texts exchanged.

    In a short text a Chinese numeral that is lost tells, too.
    """
    if left == right:
        return Differences()
    first, second = sorted(_around_differences(left, right))
    if not is_short:
        first, second = _ITEM.sub(" ", first), _ITEM.sub(" ", second)
    ours, theirs = _TOKEN.findall(first), _TOKEN.findall(second)
    our_words, their_words = ([token.lower() for token in tokens] for tokens in (ours, theirs))
    num_telling = num_slips = 0
    for a, b, c, d in differing_spans(our_words, their_words):
        if any(
            _tells(
                _Span(our_words, ours, *mine), _Span(their_words, theirs, *yours), is_short=is_short
            )
            for mine, yours in _word_by_word(a, b, c, d)
        ):
            num_telling += 1
        else:
            num_slips += _is_slip("".join(our_words[a:b]), "".join(their_words[c:d]))
    return Differences(num_telling, num_slips)


class _Span:
    """What one text has where the other differs, with what stands around it."""

    def __init__(self, words: list[str], tokens: list[str], start: int, stop: int) -> None:
        self._all, self._start = words, start
        self._tokens = tokens[start:stop]
        self.words = words[start:stop]
        self.joined = re.sub("['’]", "", "".join(self.words))

    def near(self, offset: int) -> str:
        """The token so far behind the start of the span, in lower case; empty beyond the text."""
        at = self._start + offset
        return self._all[at] if 0 <= at < len(self._all) else ""

    def options(self) -> list[str]:
        """The letters that stand for an option, such as B; an article is none."""
        return [
            word
            for offset, word in enumerate(self.words)
            if len(word) == 1
            and "a" <= word <= "z"
            and (word not in "ai" or self._is_option(offset))
        ]

    def has_capital(self, options: list[str]) -> bool:
        """Whether an option of those is written as a capital letter."""
        return any(o.upper() in self._tokens for o in options)

    def operators(self) -> list[str]:
        """The signs of arithmetic between two values."""
        return [
            word
            for offset, word in enumerate(self.words)
            if word in _OPERATORS and _is_value(self.near(offset - 1), self.near(offset + 1))
        ]

    def _is_option(self, offset: int) -> bool:
        behind = self.near(offset + 1)
        return (
            self.near(offset - 1) in _CUES
            or len(behind) < 2
            or not "a" <= behind[0] <= "z"
            or behind in _BEHIND_OPTIONS
        )


def _around_differences(left: str, right: str) -> tuple[str, str]:
    """Two texts without most of what is equal at both ends, cut where no word is cut."""
    start = common_start(left, right)
    longest = min(len(left), len(right)) - start
    stop = min(common_start(left[::-1], right[::-1]), longest)
    start, stop = max(0, start - AROUND), max(0, stop - AROUND)
    while start and not left[start - 1].isspace() and left[start - 1] not in "，。,.;；!?！？":
        start -= 1
    while (
        stop and not left[len(left) - stop].isspace() and left[len(left) - stop] not in "，。；！？"
    ):
        stop -= 1
    return left[start : len(left) - stop], right[start : len(right) - stop]


def _word_by_word(a: int, b: int, c: int, d: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of words of a span that has as many on both sides; else the span whole."""
    if b - a != d - c or b - a > REACH:
        return [((a, b), (c, d))]
    return [((a + n, a + n + 1), (c + n, c + n + 1)) for n in range(b - a)]


def _is_slip(one: str, other: str) -> bool:
    """Whether of two words not more than a letter is left without the common beginning and end."""
    start = common_start(one, other)
    short, long = sorted((one[start:], other[start:]), key=len)
    return 0 < len(long) - common_start(short[::-1], long[::-1]) <= 1


def _tells(ours: _Span, theirs: _Span, *, is_short: bool) -> bool:
    if _numbers(ours) != _numbers(theirs) or _comparisons(ours) != _comparisons(theirs):
        return True
    if ours.joined == theirs.joined:
        return False
    is_typo = _is_typo(ours.joined, theirs.joined)
    return (
        ours.operators() != theirs.operators()
        or _tell_numerals(ours, theirs, is_short=is_short)
        or _tell_units(ours, theirs)
        or _tell_options(ours, theirs, is_typo=is_typo)
        or _tell_negations(ours, theirs, is_typo=is_typo)
        or _are_swapped(ours.words, theirs.words)
    )


def _is_value(before: str, behind: str) -> bool:
    """Whether a sign stands between two numbers or names of numbers."""
    return all(word and (word[-1].isdigit() or len(word) == 1) for word in (before, behind)) and (
        before[-1:].isdigit() or behind[:1].isdigit()
    )


def _numbers(span: _Span) -> list[str]:
    return [word for word in span.words if word[-1].isdigit()]


def _comparisons(span: _Span) -> list[str]:
    return [word for word in span.words if word in _COMPARISONS]


def _tell_numerals(ours: _Span, theirs: _Span, *, is_short: bool) -> bool:
    one, other = _numerals(ours), _numerals(theirs)
    if one == other or (one and other):
        return one != other
    return is_short and theirs.near(len(theirs.words)) in _MEASURES


def _numerals(span: _Span) -> list[str]:
    """The Chinese numbers in a span; of 一三, which is none, 三."""
    found = [word for word in span.words if word[0] in _NUMERALS]
    return [word if _MULTIPLIERS & set(word) else word.replace("一", "") or "一" for word in found]


def _tell_units(ours: _Span, theirs: _Span) -> bool:
    """Whether one unit stands for another behind a number."""
    one, other = (_units(span) for span in (ours, theirs))
    return bool(one and other) and one != other


def _units(span: _Span) -> list[int]:
    """The units behind numbers in a span, or behind the number that stands before it."""
    found = []
    for offset in range(max(len(span.words), 1)):
        word = span.near(offset)
        before = span.near(offset - 1) if word in UNITS else ""
        if before and (before[-1].isdigit() or before[0] in _NUMERALS):
            found.append(UNITS[word])
    return found


def _tell_options(ours: _Span, theirs: _Span, *, is_typo: bool) -> bool:
    """Whether one option stands for another, or a capital letter was lost."""
    one, other = ours.options(), theirs.options()
    if one and other:
        return one != other
    return not is_typo and (ours.has_capital(one) or theirs.has_capital(other))


def _tell_negations(ours: _Span, theirs: _Span, *, is_typo: bool) -> bool:
    one, other = (sum(map(_is_negation, span.words)) for span in (ours, theirs))
    if one != other:
        return not is_typo
    return len(ours.words) == len(theirs.words) == 1 and _is_negated(ours.joined, theirs.joined)


def _is_negation(word: str) -> bool:
    return word in NEGATIONS or word.endswith(("n't", "n’t"))


def _is_negated(one: str, other: str) -> bool:
    """Whether a word is another one with a prefix or a suffix that turns it round."""
    short, long = sorted((one, other), key=len)
    if len(short) > 3 and long.removesuffix(short) in NEGATING_PREFIXES:
        return True
    if one[-3:] == other[-3:] and any(_exchanged(one, other, a, b) for a, b in OPPOSITE_PREFIXES):
        return True
    backwards = one[::-1], other[::-1]
    return one[:3] == other[:3] and any(
        _exchanged(*backwards, a[::-1], b[::-1]) for a, b in OPPOSITE_SUFFIXES
    )


def _exchanged(one: str, other: str, start: str, instead: str) -> bool:
    for first, second in ((one, other), (other, one)):
        if first.startswith(start) and second.startswith(instead):
            rest = first[len(start) :]
            if len(rest) > 2 and rest == second[len(instead) :]:
                return True
    return False


def _are_swapped(ours: list[str], theirs: list[str]) -> bool:
    """Whether an opposite of a word of the one span is in the other."""
    one, other = ({word for word in words if word in OPPOSITES} for words in (ours, theirs))
    return any(
        not OPPOSITES[word].isdisjoint(OPPOSITES[instead])
        for word in one - other
        for instead in other - one
    )


def _is_typo(one: str, other: str) -> bool:
    """Whether two words of Latin letters are one, with a letter changed, lost or won."""
    short, long = sorted((one, other), key=len)
    if not short or not "a" <= short[0] <= "\u024f" or len(long) - len(short) > 1:
        return False
    if {one, other} & BUT_FOR_ONE_LETTER or _is_negated(one, other):
        return False
    start = common_start(short, long)
    return short[start + (len(short) == len(long)) :] == long[start + 1 :]
