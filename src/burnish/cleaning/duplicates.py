"""Rows that say the same: equal ones, nearly equal ones, and rows that must share a split.

What is compared of a row is worked out row by row (`exact_key`, `signatures`); which rows are
duplicates is found over all rows at once (`find_duplicates`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from burnish.cleaning.likeness import Likeness, RowParts
from burnish.cleaning.minhash import (
    NUM_LIKELIEST,
    NUM_PERMUTATIONS,
    SLACK,
    Rows,
    Signatures,
    Track,
    candidates,
    estimate,
    grouped,
    normalize,
    signatures_of,
    untracked,
)
from burnish.conversation import Conversation, Message

DuplicateKey = Literal["row", "question"]

KEY_BYTES = 16

MAX_KEPT = 1000
"""With so many kept rows of a cluster others are compared: with all, work would not be linear."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which rows are duplicates of which.

    Attributes:
        first: the first row that is equal; the row itself where none is. [rows]
        kept_instead: the kept row of which this one is a duplicate; -1 for a kept row. [rows]
        similarity: the Jaccard of the two; 1 for a row equal to its kept one, 0 for a kept row.
            A row equal to a near-duplicate has that one's. [rows]
        pairs: linked rows, the earlier and the later one; sorted by the later. [pairs, 2]
        akin: rows that are no duplicates but near, as a whole or in what they ask; likewise.
            [pairs, 2]
    """

    first: Rows
    kept_instead: Rows
    similarity: NDArray[np.float32]
    pairs: Rows
    akin: Rows


def exact_key(conversation: Conversation, key: DuplicateKey = "row") -> bytes:
    """16 bytes that are equal for equal rows; any blanks count as one.

    Of a row count roles, texts, inputs, tool calls and tools; with the key "question" only what
    stands before the last answer, unless nothing does.
    """
    messages = conversation.messages
    if key == "question":
        messages = conversation.question or messages
    said = "\x1e".join(f"{m.role}\x1f{_squeezed(m)}" for m in messages)
    if conversation.tools:
        said += f"\x1d{_json(conversation.tools)}"
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def question_text(conversation: Conversation) -> str:
    """The letters and digits of everything asked, by which equal questions share a split.

    Empty where nothing is asked. System prompts do not count.
    """
    parts = parts_of(conversation)
    return normalize(f"{parts.history}\n{parts.question}")


def parts_of(conversation: Conversation, key: DuplicateKey = "row") -> RowParts:
    """The texts of a row that are compared; see exact_key for what the key does."""
    asked = [m for m in conversation.question if m.role != "system"]
    system = [_text(m) for m in conversation.question if m.role == "system"]
    if conversation.tools:
        system.append(_json(conversation.tools))
    turn = max((i for i, m in enumerate(asked) if m.role == "user"), default=len(asked))
    counts = key == "row" or not asked
    return RowParts(
        question="\n".join(map(_text, asked[turn:])),
        answer=_text(conversation.messages[-1]) if counts else "",
        history="\n".join(map(_text, asked[:turn])),
        system="\n".join(system),
    )


def signatures(
    conversations: Sequence[Conversation | None], key: DuplicateKey = "row"
) -> Signatures:
    """The MinHash signature of each row; zeros where there is none.

    [rows, NUM_PERMUTATIONS], uint8
    """
    found = np.zeros((len(conversations), NUM_PERMUTATIONS), np.uint8)
    given = [row for row, conversation in enumerate(conversations) if conversation]
    found[given] = signatures_of([parts_of(c, key).whole for c in conversations if c])
    return found


def _text(message: Message) -> str:
    parts = [message.reasoning_content, message.content, message.input]
    if message.tool_calls:
        parts.append(_json(message.tool_calls))
    return "\n".join(filter(None, parts))


def _squeezed(message: Message) -> str:
    text = f"{' '.join(message.content.split())}\x1f{' '.join(message.input.split())}"
    if message.reasoning_content:
        text += f"\x1f{' '.join(message.reasoning_content.split())}"
    return text + (f"\x1f{_json(message.tool_calls)}" if message.tool_calls else "")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def find_exact(keys: NDArray[np.uint8]) -> Rows:
    """The first row with the same key for each row; itself where none is before it."""
    halves = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: equal keys stay in row order
    ranked = halves[order]
    fresh = np.append(True, (ranked[1:] != ranked[:-1]).any(axis=1))[: len(order)]
    starts = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    first = np.empty(len(order), np.int64)
    first[order] = order[starts]
    return first


def find_duplicates(
    keys: NDArray[np.uint8],
    signatures: Signatures,
    quality: NDArray[np.float32],
    like: Likeness,
    *,
    hints: Sequence[NDArray[np.int64]] = (),
    progress: Track = untracked,
) -> Duplicates:
    """The duplicates among rows, and which row of each cluster is kept.

    Of equal rows the first stays. Of near-duplicates the one of highest quality stays, the earlier
    one of equals; a row goes only for a kept row that is verified to be like it, not along a chain.
    `pairs` among some rows do not depend on the rows behind them. Of rows that are all alike, not
    every two are a pair, but all are connected by pairs. A pair can be overlooked only in a crowd
    of rows from one template, where a row has more candidates than are checked.

    Args:
        keys: of exact_key. [rows, KEY_BYTES]
        signatures: of signatures. [rows, NUM_PERMUTATIONS]
        quality: the higher, the better. [rows]
        like: says of two rows by their indices how alike they are.
        hints: see minhash.candidates, such as hashes of question and answer. [rows] each
        progress: shows it, such as progress.track.
    """
    first = find_exact(keys)
    rows = np.flatnonzero(first == np.arange(len(first)))
    found = candidates(signatures, rows, hints, threshold=like.threshold, track=progress)
    pairs, akin = _verified(found, like, progress)
    kept_instead, similar = _keep_best(pairs, signatures, quality, like)
    again = np.flatnonzero(first != np.arange(len(first)))
    kept_first = kept_instead[first[again]]
    kept_instead[again] = np.where(kept_first < 0, first[again], kept_first)
    similar[again] = np.where(kept_first < 0, 1.0, similar[first[again]])
    equal = np.stack([first[again], again], axis=1)
    both = np.concatenate([pairs, equal])
    both = both[np.lexsort((both[:, 0], both[:, 1]))]
    return Duplicates(first, kept_instead, similar, both, akin)


def _verified(found: tuple[Rows, Rows], like: Likeness, track: Track) -> tuple[Rows, Rows]:
    """The candidates that are alike, and the others that must share a split with them.

    A row that is like an earlier one need not be compared with that one's own partners, nor one
    that has joined a group with the others that are in it.
    """
    group_of: dict[int, int] = {}
    partners: dict[int, set[int]] = {}
    pairs: list[tuple[int, int]] = []
    akin: list[tuple[int, int]] = []
    total = int(np.count_nonzero(np.diff(found[1], prepend=-1)))
    for row, earlier in track(grouped(*found), "near-duplicates", total=total, unit="rows"):
        linked: set[int] = set()
        joined: set[int] = set()
        for other in earlier:
            if not linked.isdisjoint(partners.get(other, ())):
                continue
            if like(other, row):
                linked.add(other)
                pairs.append((other, row))
                joined.add(group_of.get(other, other))
            elif group_of.get(other, other) not in joined and like.belong_together(other, row):
                akin.append((other, row))
                joined.add(group_of.get(other, other))
        group_of[row] = min(joined, default=row)
        if linked:
            partners[row] = linked
    return _pairs(pairs), _pairs(akin)


def _pairs(found: list[tuple[int, int]]) -> Rows:
    return np.array(found, np.int64).reshape(-1, 2)


def _keep_best(
    pairs: Rows, signatures: Signatures, quality: NDArray[np.float32], like: Likeness
) -> tuple[Rows, NDArray[np.float32]]:
    """For each row the kept one that it goes for and how like it is; -1 and 0 for a kept row.

    A row is compared with the likeliest kept rows of its cluster, too: in a cluster of thousands
    all have the first row as a partner, but not each other.
    """
    kept_instead = np.full(len(quality), -1, np.int64)
    similar = np.zeros(len(quality), np.float32)
    partners: dict[int, list[int]] = defaultdict(list)
    for one, other in pairs.tolist():
        partners[one].append(other)
        partners[other].append(one)
    cluster_of = _clusters(pairs)
    rows = np.array(sorted(partners), np.int64)
    kept: set[int] = set()
    kept_in: dict[int, list[int]] = defaultdict(list)
    for row in rows[np.argsort(-quality[rows], kind="stable")].tolist():
        cluster = kept_in[cluster_of[row]]
        near = [other for other in partners[row] if other in kept]
        near = near or _likely(row, cluster, signatures, like.threshold)
        jaccard, best = max(((like(row, other), -other) for other in near), default=(0.0, 0))
        if jaccard:
            kept_instead[row], similar[row] = -best, jaccard
        else:
            kept.add(row)
            if len(cluster) < MAX_KEPT:
                cluster.append(row)
    return kept_instead, similar


def _clusters(pairs: Rows) -> dict[int, int]:
    """The first row of the cluster of each row that has a partner."""
    parents: dict[int, int] = {}

    def root(row: int) -> int:
        while (parent := parents.setdefault(row, row)) != row:
            parents[row] = parents[parent]
            row = parent
        return row

    for one, other in pairs.tolist():
        ends = root(one), root(other)
        parents[max(ends)] = min(ends)
    return {row: root(row) for row in list(parents)}


def _likely(row: int, others: list[int], signatures: Signatures, threshold: float) -> list[int]:
    """The others whose signatures come near the row's, the likeliest first, not too many."""
    right = np.array(others, np.int64)
    estimates = estimate(signatures, np.full(len(right), row), right)
    order = np.argsort(-estimates, kind="stable")[:NUM_LIKELIEST]
    return [int(other) for other in right[order[estimates[order] >= threshold - SLACK]]]


def assign_groups(
    num_rows: int, pairs: Rows, extra_keys: Sequence[NDArray[np.int64]] = ()
) -> list[tuple[int, ...]]:
    """The groups of each row: rows that share one must share a split.

    A row that is linked to no earlier row founds a group, named by its index; another one belongs
    to the first group of each earlier row that it is linked to. So rows that are appended never
    change the groups of the rows before them; a row that links two groups names both. What is
    linked to such a row joins the older group alone: if the two are on different sides, the row
    between them is left out, and should not take others with it.

    Args:
        num_rows: how many rows there are.
        pairs: linked rows. [pairs, 2]
        extra_keys: rows with equal keys are linked too; -1 links nothing. [rows] each
    """
    links = [np.sort(pairs, axis=1)]
    for keys in extra_keys:
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        later = np.flatnonzero((keys != -1) & (first[inverse] != np.arange(num_rows)))
        links.append(np.stack([first[inverse[later]], later], axis=1))
    left, right = np.concatenate(links).T
    order = np.argsort(right, kind="stable")
    groups: list[tuple[int, ...]] = [(row,) for row in range(num_rows)]
    for row, earlier in grouped(left[order], right[order]):
        groups[row] = tuple(sorted({groups[other][0] for other in earlier}))
    return groups
