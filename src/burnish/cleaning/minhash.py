"""MinHash: a short signature of a text, and the rows whose signatures say that they are alike.

A text is taken as the set of its 4-grams of letters and digits. The share of equal places in two
signatures estimates the Jaccard of the two sets (grams in both / grams in either).

Source: Broder, "On the resemblance and containment of documents", 1997; Li and König, "b-Bit
minwise hashing", 2010; Leskovec, Rajaraman and Ullman, "Mining of massive datasets", chapter 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRAM = 4
"""Code points in a gram."""

NUM_PERMUTATIONS = 256
"""Places in a signature, a byte each."""

BAND = 4
"""Places in a band. Two rows with one equal band are compared: at a Jaccard of 0.5 that happens
to 98.4 % of the pairs, at 0.6 to 99.99 %, at 0.1 to 0.6 %."""

NUM_BANDS = NUM_PERMUTATIONS // BAND

NUM_REPRESENTATIVES = 8
"""A row is compared with so many rows of a band's bucket, the first ones: a bucket of 100,000 rows
from one template stays linear."""

NUM_LIKELIEST = 12
NUM_EARLIEST = 2
"""Of more candidates for a row, the likeliest are checked, and the earliest: in a big cluster all
rows are then linked to the same few."""

SLACK = 0.13
"""An estimate may be so far below the threshold: four standard deviations."""

Signatures = NDArray[np.uint8]
Rows = NDArray[np.int64]
Track = Callable[..., Iterator[Any]]

_BATCH = 512  # texts whose arrays stay in the processor's cache
_BATCH_CHARS = 1 << 18  # and so many characters, so that long texts take no more memory
_CHUNK = 2048  # pairs whose signatures stay in the processor's cache
_ROOM = 1 << 20  # pairs that are held before those not worth checking are left out
_NOT_WORD = re.compile(r"[\W_]+")
_MULTIPLIERS = np.random.default_rng(1).integers(0, 2**31, NUM_PERMUTATIONS, np.uint32) * 2 + 1


def untracked(items: Iterable[Any], what: str, *, total: int | None, unit: str) -> Iterator[Any]:
    """The items; progress.track without a bar."""
    return iter(items)


def normalize(text: str) -> str:
    """The letters and digits of a text in lower case; a text with neither without its blanks."""
    return _NOT_WORD.sub("", text.lower()) or "".join(text.split())


def signatures_of(texts: Sequence[str]) -> Signatures:
    """The MinHash signature of each text.

    [texts, NUM_PERMUTATIONS], uint8
    """
    signatures = np.empty((len(texts), NUM_PERMUTATIONS), np.uint8)
    for start, stop in _batches(texts):
        hashes, starts = _gram_hashes([normalize(text) for text in texts[start:stop]])
        permuted = np.empty_like(hashes)
        for place, multiplier in enumerate(_MULTIPLIERS):
            # Multiplying by an odd number permutes the 2^32 hashes.
            np.multiply(hashes, multiplier, out=permuted)
            least = np.minimum.reduceat(permuted, starts)
            signatures[start:stop, place] = least.astype(np.uint8)
    return signatures


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """From which text to which one goes at a time; a text longer than a batch goes alone."""
    start = num_chars = 0
    for at, text in enumerate(texts):
        if at - start == _BATCH or (at > start and num_chars + len(text) > _BATCH_CHARS):
            yield start, at
            start, num_chars = at, 0
        num_chars += len(text)
    if texts:
        yield start, len(texts)


def _gram_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], Rows]:
    """The hashes of all grams of all texts, and where each text's begin.

    A text shorter than a gram has one gram, filled up with NUL.
    """
    padding = "\0" * GRAM
    joined = "".join(text + padding for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    hashes = points[: 1 - GRAM].astype(np.uint64)
    for offset in range(1, GRAM):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += points[offset : len(hashes) + offset]
    hashes *= np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    lengths = np.array([len(text) for text in texts], np.int64)
    counts = np.maximum(lengths - (GRAM - 1), 1)
    starts = np.cumsum(counts) - counts
    text_starts = np.cumsum(lengths + GRAM) - (lengths + GRAM)
    places = np.arange(counts.sum()) + np.repeat(text_starts - starts, counts)
    return (hashes[places] >> np.uint64(32)).astype(np.uint32), starts


def estimate(signatures: Signatures, left: Rows, right: Rows) -> NDArray[np.float32]:
    """The Jaccard of each pair of rows as their signatures have it."""
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(left), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        equal = signatures[left[chosen]] == signatures[right[chosen]]
        num_equal = equal.view(np.uint8).sum(axis=1, dtype=np.uint16)
        parts.append(num_equal.astype(np.float32) / NUM_PERMUTATIONS)
    return np.concatenate(parts)


def candidates(
    signatures: Signatures,
    rows: Rows,
    hints: Sequence[NDArray[np.int64]] = (),
    *,
    threshold: float,
    track: Track,
) -> tuple[Rows, Rows]:
    """Pairs of rows whose estimate comes near the threshold: the earlier ones, the later ones.

    Sorted by the later row, then by the earlier one. Which pairs there are among some rows does not
    depend on the rows behind them.

    Args:
        signatures: of all rows. [all rows, NUM_PERMUTATIONS]
        rows: the rows to compare.
        hints: rows with equal keys are compared whatever else is likely: among thousands of rows
            from one template, others are more alike than a copy with typos. [all rows] each
        threshold: the Jaccard from which two rows are near.
        track: shows the progress.
    """
    found, room = np.empty(0, np.int64), _ROOM
    num_rows = max(len(signatures), 1)
    bands = np.ascontiguousarray(signatures).view(np.uint32).T

    def with_bucket(codes: Rows, keys: NDArray[Any]) -> Rows:
        parts = [codes]
        for first, second in _bucket_pairs(keys[rows]):
            left, right = rows[first], rows[second]
            near = estimate(signatures, left, right) >= threshold - SLACK
            parts.append(right[near] * num_rows + left[near])
        return _distinct(np.concatenate(parts))

    for band in track(bands, "near-duplicates", total=NUM_BANDS, unit="bands"):
        found = with_bucket(found, band)
        if len(found) > room:
            found = found[_worth_checking(signatures, found % num_rows, found // num_rows)]
            room = max(room, 2 * len(found))
    found = found[_worth_checking(signatures, found % num_rows, found // num_rows)]
    for hint in hints:
        found = with_bucket(found, hint)
    return found % num_rows, found // num_rows


def _worth_checking(signatures: Signatures, left: Rows, right: Rows) -> NDArray[np.bool_]:
    """Which pairs are among the likeliest or earliest of their later row.

    Pairs that are left out for some stay out when more are found, so it may be asked in between.
    """
    chosen = _ranks(right) < NUM_EARLIEST
    order = np.lexsort((left, -estimate(signatures, left, right), right))
    chosen[order] |= _ranks(right[order]) < NUM_LIKELIEST
    return chosen


def _ranks(ordered: NDArray[Any]) -> Rows:
    """The place of each entry within its run of equal ones, from 0."""
    places = np.arange(len(ordered), dtype=np.int64)
    fresh = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    starts: Rows = np.maximum.accumulate(np.where(fresh, places, 0))
    return places - starts


def _distinct(codes: Rows) -> Rows:
    """The codes sorted, each once. np.unique hashes them, and codes of one cluster collide."""
    codes.sort()
    distinct: Rows = codes[np.append(True, codes[1:] != codes[:-1])[: len(codes)]]
    return distinct


def _bucket_pairs(keys: NDArray[Any]) -> Iterator[tuple[Rows, Rows]]:
    """Places with equal keys, each with the first, the second, … place of its bucket."""
    order = np.argsort(keys, kind="stable")
    ranks = _ranks(keys[order])
    for rank in range(NUM_REPRESENTATIVES):
        later = np.flatnonzero(ranks > rank)
        if not later.size:
            return
        yield order[later - ranks[later] + rank], order[later]


def grouped(left: Rows, right: Rows) -> Iterable[tuple[int, list[int]]]:
    """Each later row with its earlier partners, for pairs sorted by the later row."""
    bounds = [*np.flatnonzero(np.diff(right, prepend=-1)).tolist(), len(right)]
    return ((int(right[a]), left[a:b].tolist()) for a, b in pairwise(bounds))
