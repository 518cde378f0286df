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
- No number stands for another of as many digits: patients of 40 and of 60 are two patients.
- In a short answer, where one character can turn the meaning round, all that tells must agree:
  numbers (with sign or comparison; `每日两次` and `option B` count), negations, and opposites such
  as 左/右 or high/low. So it must in a short question beside a short answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

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

MAX_WORDS = 8
"""Of more numbers in a text, a typo that makes or unmakes one would shift the rest."""

MAX_ADDED = 6
"""So many letters may be added to a question: more tell another subject."""

MAX_CORE = 200
"""Longer cores are not compared: the grams have said enough."""

_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_STRICT = re.compile(
    # Numbers, in digits or words.
    r"(?:[-+<>≤≥=±]\s*)?\d+(?:\.\d+)?"
    r"|[一二两三四五六七八九十百半]+(?=[次天日周月年岁片粒颗支瓶袋包个种级期倍度克毫分小点])"
    r"|(?<![a-z])(?:one|two|three|four|five|six|seven|eight|nine|ten|once|twice)(?![a-z])"
    # Negations.
    r"|(?P<negation>[不没無无未非否别別勿莫]|n['’]t(?![a-z])"
    r"|(?<![a-z])(?:no|not|never|none|nor|neither|cannot|without)(?![a-z]))"
)
_OPPOSITES = re.compile(
    r"[左右前后後上下内內外高低大小多少阴陰阳陽男女增减減升降]"
    r"|(?<![a-z])(?:left|right|before|after|high(?:er)?|low(?:er)?|more|less|increase[sd]?"
    r"|decrease[sd]?|positive|negative|true|false|yes|male|female)(?![a-z])"
    # An option: a letter that stands alone and is no article.
    r"|(?<![a-z'’])[a-h](?![a-z'’])(?!\s+[a-z])"
)
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


def similarity(left: RowParts, right: RowParts, threshold: float) -> float | None:
    """The Jaccard of the grams of two rows, or None where they are no near-duplicates."""
    lean = max(len(left.answer), len(right.answer)) < SHORT
    alike = (
        _alike(left.question, right.question, threshold, strict=lean, most_added=MAX_ADDED)
        and _alike(left.answer, right.answer, threshold, strict=True)
        and _alike(left.history, right.history, threshold, strict=False)
        and _alike(left.system, right.system, threshold, strict=False)
    )
    if not alike:
        return None
    ours, theirs = normalize(left.whole), normalize(right.whole)
    jaccard = jaccard_of(ours, theirs, GRAM if min(len(ours), len(theirs)) >= SHORT_ROW else 2)
    return jaccard if jaccard >= threshold else None


def asks_the_same(left: RowParts, right: RowParts, threshold: float) -> bool:
    """Whether two long questions are nearly the same, with the same numbers, whatever the answers.

    Short ones are told apart by too little: `What is 3 + 4?` is no `What is 13 + 4?`.
    """
    if min(len(normalize(left.question)), len(normalize(right.question))) < SHORT:
        return False
    if _DIGITS.findall(left.question) != _DIGITS.findall(right.question):
        return False
    return all(
        _alike(one, other, threshold, strict=False, most_added=MAX_ADDED)
        for one, other in ((left.question, right.question), (left.history, right.history))
    )


class Likeness:
    """Answers by pair of rows, remembered: how alike they are, 0 for no near-duplicates."""

    def __init__(self, text_of: Callable[[int], RowParts], threshold: float) -> None:
        """`text_of` gives the texts of a row by its index, which may come from disk."""
        self.threshold = threshold
        self._text_of = lru_cache(maxsize=4096)(text_of)
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, one: int, other: int) -> float:
        """The Jaccard of two rows; 0 where they are no near-duplicates."""
        pair = (min(one, other), max(one, other))
        if pair not in self._known:
            left, right = map(self._text_of, pair)
            self._known[pair] = similarity(left, right, self.threshold) or 0.0
        return self._known[pair]

    def asks_the_same(self, one: int, other: int) -> bool:
        """Whether the questions of two rows are nearly the same, whatever the answers."""
        return asks_the_same(self._text_of(one), self._text_of(other), self.threshold)


def jaccard_of(left: str, right: str, size: int) -> float:
    """The share of the n-grams of two texts that both have; a shorter text is one gram."""
    if left == right:
        return 1.0
    ours, theirs = grams(left, size), grams(right, size)
    both = len(ours & theirs)
    return both / (len(ours) + len(theirs) - both)


def grams(text: str, size: int) -> set[str]:
    """The n-grams of a text; a shorter text is one gram."""
    return {text[at : at + size] for at in range(max(1, len(text) - size + 1))}


def _alike(
    left: str, right: str, threshold: float, *, strict: bool, most_added: float = math.inf
) -> bool:
    if left == right:
        return True
    left, right = left.lower(), right.lower()
    ours, theirs = (normalize(_COURTESY.sub("", text) or text) for text in (left, right))
    if not _cores_match(ours, theirs, most_added):
        return False
    if min(len(ours), len(theirs)) >= SHORT:
        least = LONG_SHARE * threshold
        return not _swapped(_DIGITS, left, right) and jaccard_of(ours, theirs, GRAM) >= least
    return (_agree if strict else _same_digits)(left, right) and (
        jaccard_of(f"\n{ours}\n", f"\n{theirs}\n", 2) >= SHORT_SHARE * threshold
    )


def _agree(left: str, right: str) -> bool:
    """Whether two short texts have the same numbers and negations, and no opposites swapped."""
    ours, theirs = (
        ["not" if m["negation"] else "".join(m.group().split()) for m in _STRICT.finditer(text)]
        for text in (left, right)
    )
    return ours == theirs and not _swapped(_OPPOSITES, left, right)


def _same_digits(left: str, right: str) -> bool:
    return not _swapped(_DIGITS, left, right)


def _swapped(words: re.Pattern[str], left: str, right: str) -> bool:
    """Whether a word of a kind stands where the other text has another one.

    A word that was lost or won is no sign: a typo does that. Nor is a number of more digits.
    """
    ours, theirs = words.findall(left), words.findall(right)
    return len(ours) == len(theirs) <= MAX_WORDS and any(
        one != other and (len(one) == len(other) or not one[0].isdigit())
        for one, other in zip(ours, theirs, strict=True)
    )


def _cores_match(left: str, right: str, most_added: float) -> bool:
    """Whether most letters of the shorter core are in the other, which has few more."""
    start = _common(left, right)
    left, right = left[start:], right[start:]
    stop = _common(left[::-1], right[::-1])
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


def _common(left: str, right: str) -> int:
    """How many characters two texts have in common at the start."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


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
