"""What is seen in a batch of rows: where each row's content stands, and its answers.

An answer is a run of tokens that carry loss. All of it is worked out on arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from burnish.conversation import IGNORE_INDEX
from burnish.labels.rows import Batch, Ints, Rows
from burnish.labels.vocabulary import Vocabulary

_MOST_BLANKS = 4
"""So many tokens of white space may stand between an answer and the token that ends it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a batch, an entry each, positions in its flat arrays.

    Attributes:
        rows: which row an answer stands in.
        ends: its last token that is no white space.
        behind: the next token that is none; that of another row or beyond where there is none.
        is_open: whether it goes on to the very end of its row.
        stopped: whether it ends with a stop token.
        masked: whether a stop token that carries no loss stands behind it.
        wrong: whether it ends with another control token.
    """

    rows: Ints
    ends: Ints
    behind: Ints
    is_open: Rows
    stopped: Rows
    masked: Rows
    wrong: Rows


@dataclass(frozen=True)
class Look:
    """A batch with the vocabulary that it was made with."""

    batch: Batch
    vocabulary: Vocabulary

    @cached_property
    def safe(self) -> Ints:
        """The ids; one that is in no table is the last entry there."""
        ids, size = self.batch.ids, self.vocabulary.size
        if not len(ids) or (ids.min() >= 0 and ids.max() < size):
            return ids
        return np.where((ids < 0) | (ids >= size), size, ids)

    @cached_property
    def supervised(self) -> Rows:
        """Whether each token carries loss."""
        return np.asarray(self.batch.labels != IGNORE_INDEX)

    @cached_property
    def num_supervised(self) -> Ints:
        """How many tokens of each row carry loss."""
        return self._between(self.batch.starts, self.batch.ends)

    @cached_property
    def content(self) -> tuple[Ints, Ints]:
        """Where each row begins and ends without its padding.

        The attention mask says so; else padding is the pad tokens at its ends. Where pad is a stop
        token, the first at the end of a row is none.
        """
        starts, ends = self.batch.starts, self.batch.ends
        if self.batch.attended is not None:
            return _edges(self.batch.attended, starts, ends)
        pad = self.vocabulary.only("pad")
        if pad is None or not len(self.batch.ids):
            return starts, ends
        is_pad = self.batch.ids == pad
        rows = np.flatnonzero(ends > starts)
        padded = is_pad[starts[rows]] | is_pad[ends[rows] - 1]
        if not padded.any():
            return starts, ends
        begin, stop = _edges(~is_pad, starts, ends)
        if pad in self.vocabulary.stops:
            stop = np.minimum(stop + 1, ends)
        if pad == self.vocabulary.only("bos"):
            begin = np.maximum(begin - 1, starts)
        # A single one at the start is rather a mark between documents.
        return np.where(begin - starts < 2, starts, begin), stop

    @cached_property
    def different(self) -> Ints:
        """Where a label is another token than the one in its place."""
        return np.flatnonzero(self.supervised & (self.batch.labels != self.batch.ids))

    @cached_property
    def is_shifted(self) -> Rows:
        """Rows whose labels are those of the next, or the last, place."""
        rows = self.having(self.different)
        if not rows.any():
            return rows
        ids, labels = self.batch.ids, self.batch.labels
        shifted = np.zeros(len(rows), dtype=bool)
        for step, edge in ((-1, self.batch.ends - 1), (1, self.batch.starts)):
            wrong = self.supervised & (labels != np.roll(ids, step))
            wrong[edge[self.batch.lengths > 0]] = False
            shifted |= ~self.having(np.flatnonzero(wrong))
        return rows & shifted

    @cached_property
    def answers(self) -> Answers:
        """The answers of all rows whose labels are their own tokens."""
        begins, lasts = self._runs()
        rows = self.rows_of(lasts)
        begin, stop = self.content
        final = self.batch.ends[rows] - 1
        lasts = np.minimum(lasts, stop[rows] - 1)
        good = (begins <= lasts) & (begins >= begin[rows]) & ~self.having(self.different)[rows]
        begins, lasts, rows, final = begins[good], lasts[good], rows[good], final[good]
        ends, behind = lasts, lasts + 1
        for _ in range(_MOST_BLANKS):
            ends = np.where(self._is_blank(ends) & (ends > begins), ends - 1, ends)
            behind = np.where((behind < stop[rows]) & self._is_blank(behind), behind + 1, behind)
        known = self.vocabulary
        stopped = known.is_stop(self.batch.ids[ends])
        follows = behind < stop[rows]
        nearest = np.minimum(behind, len(self.safe) - 1)
        masked = ~stopped & follows & known.is_stop(self.batch.ids[nearest])
        masked &= ~self.supervised[nearest]
        wrong = ~stopped & ~masked & known.control[self.safe[ends]]
        is_open = ~stopped & ~wrong & (lasts == final)
        return Answers(rows, ends, behind, is_open, stopped, masked, wrong)

    def within(self, found: Rows) -> Ints:
        """Where something is found among the tokens, padding left out."""
        at = np.flatnonzero(found)
        if not len(at):
            return at
        rows = self.rows_of(at)
        begin, stop = self.content
        return at[(at >= begin[rows]) & (at < stop[rows])]

    def rows_of(self, at: Ints) -> Ints:
        """The row of each position."""
        return np.searchsorted(self.batch.starts, at, side="right") - 1

    def having(self, at: Ints) -> Rows:
        """Which rows have one of these positions."""
        found = np.zeros(len(self.batch.starts), dtype=bool)
        found[self.rows_of(at)] = True
        return found

    @cached_property
    def num_padding_learned(self) -> Ints:
        """How many tokens of padding carry loss, by row."""
        return self.num_supervised - self._between(*self.content)

    def tokens_at(self, at: Ints) -> Mapping[int, int]:
        """How often each token stands in these places."""
        tokens, counts = np.unique(self.batch.ids[at], return_counts=True)
        return dict(zip(tokens.tolist(), counts.tolist(), strict=True))

    @cached_property
    def _summed(self) -> Ints:
        counts = np.zeros(len(self.supervised) + 1, dtype=np.int64)
        np.cumsum(self.supervised, out=counts[1:])
        return counts

    def _between(self, begin: Ints, stop: Ints) -> Ints:
        return np.asarray(self._summed[np.maximum(stop, begin)] - self._summed[begin])

    def _runs(self) -> tuple[Ints, Ints]:
        """The first and the last position of each run of tokens that carry loss."""
        on, some = self.supervised, self.batch.lengths > 0
        begins, lasts = on.copy(), on.copy()
        begins[1:] &= ~on[:-1]
        lasts[:-1] &= ~on[1:]
        first, last = self.batch.starts[some], self.batch.ends[some] - 1
        begins[first], lasts[last] = on[first], on[last]
        return np.flatnonzero(begins), np.flatnonzero(lasts)

    def _is_blank(self, at: Ints) -> Rows:
        return self.vocabulary.blank[self.safe[np.minimum(at, len(self.safe) - 1)]]


def _edges(on: Rows, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The first place of each row where something is on, and the one behind the last."""
    at = np.flatnonzero(on)
    if not len(at):
        return starts, starts
    first, last = np.searchsorted(at, starts), np.searchsorted(at, ends) - 1
    has = first <= last
    begin = np.where(has, at[np.minimum(first, len(at) - 1)], starts)
    return begin, np.where(has, at[np.maximum(last, 0)] + 1, starts)
