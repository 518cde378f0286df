"""Texts to look for in rows (questions of benchmarks, held-out rows), as arrays of word hashes.

A word is a run of letters and digits, or a single Chinese, Japanese or Korean character. Single
letters from a to e are left out: they number the choices (and one is an English article).

The index holds the seeds of the items: each 8 words in a row, as a hash and the place where they
stand. It is compact and picklable, for worker processes: 43,000 questions take 48 MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]

MIN_WORDS = 8
"""Fewer words in a row are no evidence: "what is the difference between a and" begins anything."""
MAX_ITEMS = 10
"""Words in a row that more items share are boilerplate ("which of the following is true about"),
and no seed. A passage that several questions of MMLU are about has at most six of them."""

_SINGLE = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]{{2,}}|[^\W_a-e{_SINGLE}]")
_FULL_WIDTH = re.compile(r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
_HALF_WIDTH = {wide: wide - 0xFEE0 for wide in range(0xFF10, 0xFF5B)}
_FACTOR, _MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark, or one held-out text.

    Attributes:
        benchmark: where it is from, such as `mmlu`.
        name: which one it is, such as `mmlu/anatomy/test:17`.
        question: what is asked.
        choices: the answers to choose from; they count only behind the question.
    """

    benchmark: str
    name: str
    question: str
    choices: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """Items, ready to be looked for.

    Attributes:
        ngram: so many words in a row are a leak.
        seed_words: how many words a seed has.
        halves: whether half of a question under 2 * ngram words is one too.
        names: benchmark and name of each item.
        unchecked: names of the items that are too short or hold nothing but boilerplate.
        vocabulary: the number of each word, from 1; 0 is any other word.
        words: the words of all items, one item behind the other.
        bounds: where each item begins in `words`; behind the last stands the end.
        asked: how many words each question has.
        keys: hashes of the seeds, sorted.
        places: where in `words` the seed of each key begins.
        sieve: whether any key begins with these bits.
    """

    ngram: int
    seed_words: int
    halves: bool
    names: tuple[tuple[str, str], ...]
    unchecked: tuple[str, ...]
    vocabulary: dict[str, int]
    words: Ids
    bounds: Places
    asked: Places
    keys: Hashes
    places: Ids
    sieve: NDArray[np.bool_]


class Hit(NamedTuple):
    """A place in a row with the seed that the index has under the keys low to high."""

    at: int
    low: int
    high: int


class Run(NamedTuple):
    """Words that a row and an item share: where they begin in each, and how many they are."""

    in_row: int
    in_item: int
    length: int


def words(text: str) -> list[str]:
    """The words of a text, in lower case and half width."""
    return _WORD.findall(_plain(text))


def passage(text: str, first: int, count: int) -> str:
    """The `count` words of a text from the word number `first`, with what stands between them."""
    plain = _plain(text)
    spans = [match.span() for match in islice(_WORD.finditer(plain), first, first + count)]
    return plain[spans[0][0] : spans[-1][1]]


def _plain(text: str) -> str:
    if not text.isascii() and _FULL_WIDTH.search(text):
        text = text.translate(_HALF_WIDTH)
    return text.lower()


def build_index(items: Iterable[Item], ngram: int, *, halves: bool = True) -> Index:
    """An index of these items.

    Args:
        items: what to look for.
        ngram: so many words in a row are a leak.
        halves: whether half of a question under 2 * ngram words is one too.
    """
    names, asked, numbered = [], [], []
    vocabulary: dict[str, int] = {}
    for item in items:
        question = words(item.question)
        both = question + words(item.choices)
        names.append((item.benchmark, item.name))
        asked.append(len(question))
        numbered.append([vocabulary.setdefault(word, len(vocabulary) + 1) for word in both])
    bounds = np.cumsum([0, *map(len, numbered)], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(numbered), np.int32, bounds[-1])
    num_asked = np.array(asked, np.int64)
    seed_words = min(MIN_WORDS, ngram)
    keys, places = _seeds(flat, bounds, num_asked, seed_words)
    checked = set(_item_of(places, bounds).tolist())
    return Index(
        ngram=ngram,
        seed_words=seed_words,
        halves=halves,
        names=tuple(names),
        unchecked=tuple(name for i, (_, name) in enumerate(names) if i not in checked),
        vocabulary=vocabulary,
        words=flat,
        bounds=bounds,
        asked=num_asked,
        keys=keys,
        places=places.astype(np.int32),
        sieve=_sieve(keys),
    )


def _seeds(flat: Ids, bounds: Places, asked: Places, size: int) -> tuple[Hashes, Places]:
    """Hashes of the questions' seeds and where they begin, sorted by hash.

    A seed begins in the question and may run on into the choices.
    """
    keys = _hashes(flat, size)
    places = np.arange(len(keys))
    item = _item_of(places, bounds)
    fits = (places - bounds[item] < asked[item]) & (places + size <= bounds[item + 1])
    keys, places, item = keys[fits], places[fits], item[fits]
    order = np.argsort(keys, kind="stable")
    keys, places, item = keys[order], places[order], item[order]
    new_key = np.ones(len(keys), bool)
    new_key[1:] = keys[1:] != keys[:-1]
    new_item = new_key.copy()
    new_item[1:] |= item[1:] != item[:-1]
    group = np.cumsum(new_key) - 1
    rare = np.bincount(group, weights=new_item)[group] <= MAX_ITEMS
    return keys[rare], places[rare]


def _hashes(ids: Ids, size: int) -> Hashes:
    """A hash of each `size` words in a row, by the place where they begin."""
    count = max(len(ids) - size + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for shift in range(size):
        hashes *= _FACTOR
        hashes += ids[shift : shift + count].astype(np.uint64)
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIXER
    return hashes


def _item_of(places: Places, bounds: Places) -> Places:
    return np.searchsorted(bounds, places, side="right") - 1


def _sieve(keys: Hashes) -> NDArray[np.bool_]:
    bits = min(max(10, (8 * len(keys)).bit_length()), 26)
    sieve = np.zeros(2**bits, bool)
    sieve[keys >> np.uint64(64 - bits)] = True
    return sieve


def shared_runs(texts: Sequence[str], index: Index) -> Iterator[tuple[int, dict[int, list[Run]]]]:
    """For each text with any: its number, and by item the runs that both have around a seed."""
    split = [words(text) for text in texts]
    for found in split:
        found.append("")  # no word of any item: ends each run at the end of its text
    ends = np.cumsum([0, *map(len, split)])
    numbers = map(index.vocabulary.get, chain.from_iterable(split), repeat(0))
    flat = np.fromiter(numbers, np.int32, ends[-1])
    for row, hits in _hits(flat, ends, index).items():
        runs = _runs(flat[ends[row] : ends[row + 1]].tolist(), hits, index)
        if runs:
            yield row, runs


def _hits(flat: Ids, ends: Places, index: Index) -> dict[int, list[Hit]]:
    """The seeds in each row that the index has; a few may only have the hash of one."""
    hashes = _hashes(flat, index.seed_words)
    bits = len(index.sieve).bit_length() - 1
    at = np.flatnonzero(index.sieve[hashes >> np.uint64(64 - bits)])
    low = np.searchsorted(index.keys, hashes[at], side="left")
    high = np.searchsorted(index.keys, hashes[at], side="right")
    known = low < high
    at, low, high = at[known], low[known], high[known]
    row_of = np.searchsorted(ends, at, side="right") - 1
    hits: dict[int, list[Hit]] = {}
    columns = (row_of.tolist(), (at - ends[row_of]).tolist(), low.tolist(), high.tolist())
    for row, place, first, last in zip(*columns, strict=True):
        hits.setdefault(row, []).append(Hit(place, first, last))
    return hits


def _runs(row: list[int], hits: list[Hit], index: Index) -> dict[int, list[Run]]:
    runs: dict[int, list[Run]] = {}
    reached: dict[tuple[int, int], int] = {}
    for hit in hits:
        for place in index.places[hit.low : hit.high].tolist():
            if hit.at < reached.get(diagonal := hit.at - place, 0):
                continue
            item = int(np.searchsorted(index.bounds, place, side="right")) - 1
            begin = int(index.bounds[item])
            theirs = index.words[begin : index.bounds[item + 1]].tolist()
            run = _extend(row, theirs, hit.at, place - begin)
            # The words decide, not their hashes.
            if run.length >= index.seed_words:
                reached[diagonal] = run.in_row + run.length
                runs.setdefault(item, []).append(run)
    return runs


def _extend(row: list[int], item: list[int], in_row: int, in_item: int) -> Run:
    """The longest run around a place in both."""
    end_row, end_item = in_row, in_item
    while end_row < len(row) and end_item < len(item) and row[end_row] == item[end_item]:
        end_row, end_item = end_row + 1, end_item + 1
    while in_row and in_item and row[in_row - 1] == item[in_item - 1]:
        in_row, in_item = in_row - 1, in_item - 1
    return Run(in_row, in_item, end_row - in_row)
