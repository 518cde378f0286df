"""Whether two rows are near-duplicates: the exact check behind an estimate.

Whole rows are compared by the Jaccard of their grams, and then part by part, because a long part
outvotes a short one: a repeated question with another answer is no duplicate, nor is one answer to
two questions. A part with polite words before or behind it is the part without them. Two parts are
alike if all of this holds:

- Their grams are: 4-grams, at half the threshold, because the whole is compared too; bigrams in a
  part of fewer than SHORT letters.
- What is left of them without a common beginning and end (their cores) is mostly the same letters.
  Typos lie scattered, so the core from the first to the last is mostly sound; where one subject
  stands for another (`symptoms of measles`, `symptoms of mumps`) it is not.

And what differs in all parts together must not change what they say (`differences.py`): numbers,
units, comparisons, negations, options, opposites. Where there are as many slips of a letter as such
changes, a row is a damaged copy. A short part must say the same on its own.

Dropping is strict, in doubt a row stays. Grouping for splits is generous: there the
Jaccard of the whole decides alone.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.cleaning.alignment import common_start
from burnish.cleaning.differences import Differences, differences
from burnish.cleaning.minhash import GRAM, normalize

SHORT = 24
"""A part with fewer letters is short: its bigrams are compared."""

SHORT_ROW = 128
"""The same for a whole row, where a 4-gram would count a typo four times in too few grams."""

LONG_SHARE = 0.5
"""The Jaccard that a long part needs, as a share of the threshold for the whole."""

SHORT_SHARE = 0.8
"""The same for a short part."""

CORE_LOSS = 0.3
"""So great a share of the letters of the shorter core may be missing in the other."""

MAX_ADDED = 6
"""So many letters may be added to a question: more tell another subject."""

LONG_TEXT = 5000
"""From so many letters on, grams are compared as sorted arrays rather than as sets."""

MOST_HELD = 2**24
"""So many characters of texts are held while rows are compared."""

MAX_CORE = 200
"""Longer cores are not compared: the grams have said enough."""

_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_COURTESY = re.compile(
    r"^\s*(?:您好|你好|hello|hi)[\s,，.。!！:：]+"
    r"|(?:谢谢|多谢|感谢|祝[您你早]|希望(?:对|能|我|以)|以上(?:仅|建议|回答|内容)"
    r"|thanks|thank you|hope (?:this|that|it) helps|good luck)"
    r"[^。.!！?？\n]{0,16}[。.!！~～\s]*$"
)


@dataclass(frozen=True, slots=True)
class RowParts:
    """The texts of a row that are compared.

    Attributes:
        question: what is asked last.
        answer: what the assistant says last; empty where only questions count.
        history: the turns before the question.
        system: the system prompt and the tools. Many rows share them, so they are no part of the
            whole; but they must be alike.
    """

    question: str
    answer: str = ""
    history: str = ""
    system: str = ""

    @property
    def whole(self) -> str:
        """What the signature is made of."""
        return f"{self.history}\n{self.question}\n{self.answer}"

    @property
    def num_chars(self) -> int:
        """How long all of it is."""
        return sum(map(len, (self.question, self.answer, self.history, self.system)))


def similarity(left: RowParts, right: RowParts, threshold: float) -> float | None:
    """The Jaccard of the grams of two rows, or None where they are no near-duplicates."""
    if not _parts_alike(left, right, threshold):
        return None
    jaccard = jaccard_of_rows(left, right)
    return jaccard if jaccard >= threshold else None


def jaccard_of_rows(left: RowParts, right: RowParts) -> float:
    """The Jaccard of the grams of two whole rows; of bigrams where a row is short."""
    ours, theirs = normalize(left.whole), normalize(right.whole)
    return jaccard_of(ours, theirs, GRAM if min(len(ours), len(theirs)) >= SHORT_ROW else 2)


def belong_together(left: RowParts, right: RowParts, threshold: float) -> bool:
    """Whether two rows must share a split: they ask the same, or their 4-grams are near.

    By 4-grams in short rows, too: by bigrams all rows of a short template would be one group.
    """
    near = jaccard_of(normalize(left.whole), normalize(right.whole), GRAM) >= threshold
    return near or asks_the_same(left, right, threshold)


def asks_the_same(left: RowParts, right: RowParts, threshold: float) -> bool:
    """Whether two long questions are nearly the same, with the same numbers, whatever the answers.

    Short ones are told apart by too little: `What is 3 + 4?` is no `What is 13 + 4?`.
    """
    if min(len(normalize(left.question)), len(normalize(right.question))) < SHORT:
        return False
    if _DIGITS.findall(left.question) != _DIGITS.findall(right.question):
        return False
    return all(
        _alike(one, other, threshold, most_added=MAX_ADDED)
        for one, other in ((left.question, right.question), (left.history, right.history))
    )


class Likeness:
    """Answers by pair of rows, remembered: how alike they are, 0 for no near-duplicates."""

    def __init__(self, text_of: Callable[[int], RowParts], threshold: float) -> None:
        """`text_of` gives the texts of a row by its index, which may come from disk."""
        self.threshold = threshold
        self._read = text_of
        self._texts: OrderedDict[int, RowParts] = OrderedDict()
        self._num_chars = 0
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, one: int, other: int) -> float:
        """The Jaccard of two rows; 0 where they are no near-duplicates."""
        pair = (min(one, other), max(one, other))
        if pair not in self._known:
            left, right = map(self._text_of, pair)
            self._known[pair] = similarity(left, right, self.threshold) or 0.0
        return self._known[pair]

    def belong_together(self, one: int, other: int) -> bool:
        """Whether two rows must share a split, near-duplicates or not."""
        return belong_together(self._text_of(one), self._text_of(other), self.threshold)

    def _text_of(self, row: int) -> RowParts:
        """The texts of a row; those asked for last are held, MOST_HELD characters of them."""
        if row in self._texts:
            self._texts.move_to_end(row)
            return self._texts[row]
        self._texts[row] = parts = self._read(row)
        self._num_chars += parts.num_chars
        while self._num_chars > MOST_HELD and len(self._texts) > 2:
            self._num_chars -= self._texts.popitem(last=False)[1].num_chars
        return parts


def jaccard_of(left: str, right: str, size: int) -> float:
    """The share of the n-grams of two texts that both have; a shorter text is one gram."""
    if left == right:
        return 1.0
    if min(len(left), len(right)) >= LONG_TEXT:
        codes, others = _gram_codes(left, size), _gram_codes(right, size)
        shared = len(np.intersect1d(codes, others, assume_unique=True))
        return shared / (len(codes) + len(others) - shared)
    ours, theirs = grams(left, size), grams(right, size)
    both = len(ours & theirs)
    return both / (len(ours) + len(theirs) - both)


def _gram_codes(text: str, size: int) -> NDArray[np.uint64]:
    """A 64-bit hash for each n-gram of a text, sorted, each once."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = np.zeros(len(points) - size + 1, np.uint64)
    for offset in range(size):
        codes *= np.uint64(0x9E3779B97F4A7C15)
        codes += points[offset : len(codes) + offset]
        codes ^= codes >> np.uint64(29)
    codes.sort()
    distinct: NDArray[np.uint64] = codes[np.append(True, codes[1:] != codes[:-1])]
    return distinct


def grams(text: str, size: int) -> set[str]:
    """The n-grams of a text; a shorter text is one gram."""
    return {text[at : at + size] for at in range(max(1, len(text) - size + 1))}


def _parts_alike(left: RowParts, right: RowParts, threshold: float) -> bool:
    """Whether each part of two rows is nearly the same, and they say the same together.

    A short part must say the same on its own: typos elsewhere do not excuse a yes for a no.
    """
    parts = (
        (left.question, right.question),
        (left.answer, right.answer),
        (left.history, right.history),
        (left.system, right.system),
    )
    most_added = (MAX_ADDED, math.inf, math.inf, math.inf)
    if not all(
        _alike(*pair, threshold, most_added=most)
        for pair, most in zip(parts, most_added, strict=True)
    ):
        return False
    total = Differences()
    for pair in parts:
        is_short = min(map(len, map(normalize, pair))) < SHORT
        found = differences(*pair, is_short=is_short)
        if is_short and found.change_meaning:
            return False
        total += found
    return not total.change_meaning


def _alike(left: str, right: str, threshold: float, *, most_added: float = math.inf) -> bool:
    """Whether two parts are nearly the same in letters, whatever they say."""
    if left == right:
        return True
    ours, theirs = (normalize(_COURTESY.sub("", t) or t) for t in (left.lower(), right.lower()))
    if not _cores_match(ours, theirs, most_added):
        return False
    is_short = min(len(ours), len(theirs)) < SHORT
    if is_short:
        return jaccard_of(f"\n{ours}\n", f"\n{theirs}\n", 2) >= SHORT_SHARE * threshold
    return jaccard_of(ours, theirs, GRAM) >= LONG_SHARE * threshold


def _cores_match(left: str, right: str, most_added: float) -> bool:
    """Whether most letters of the shorter core are in the other, which has few more."""
    start = common_start(left, right)
    left, right = left[start:], right[start:]
    stop = common_start(left[::-1], right[::-1])
    short, long = sorted((left[: len(left) - stop], right[: len(right) - stop]), key=len)
    added = len(long) - len(short)
    if added > most_added + CORE_LOSS * len(short):
        return False
    if len(short) <= 2 or len(short) > MAX_CORE:
        return True
    # What was added stands at one of the ends, so the shorter one is compared with both.
    reach = len(short) + 2
    same = max(_subsequence(short, end) for end in {long[:reach], long[-reach:]})
    typos = 2 if added <= 2 else 1
    return len(short) - same <= max(typos, CORE_LOSS * len(short))


def _subsequence(left: str, right: str) -> int:
    """The length of the longest common subsequence, all of `left` in one step a character.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
    """
    places: dict[str, int] = {}
    for at, letter in enumerate(left):
        places[letter] = places.get(letter, 0) | 1 << at
    full = (1 << len(left)) - 1
    free = full
    for letter in right:
        hit = free & places.get(letter, 0)
        free = ((free + hit) | (free - hit)) & full
    return len(left) - free.bit_count()
