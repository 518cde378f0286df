"""All rows gone through once, batch by batch, and what came of it counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.labels.findings import FINDINGS, Table
from burnish.labels.look import Look
from burnish.labels.rows import Batch, Ints, batches
from burnish.labels.vocabulary import Vocabulary

NUM_FIRST = 5
"""So many rows are named for each finding."""


@dataclass
class Hits:
    """The rows that have a finding.

    Attributes:
        count: how many.
        first: the first of them, by their number in the whole set.
        tokens: the tokens in question, and how often.
    """

    count: int = 0
    first: list[int] = field(default_factory=list)
    tokens: Counter[int] = field(default_factory=Counter)

    def add(self, rows: Ints) -> None:
        """Counts more rows."""
        self.count += len(rows)
        self.first += rows[: NUM_FIRST - len(self.first)].tolist()


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted.

    Attributes:
        num_rows: rows by split, in order.
        table: what is kept of each row.
        hits: by finding; only those that were found.
        num_answers: runs of tokens that carry loss.
        num_stopped: how many of them end with a stop token.
    """

    num_rows: dict[str, int]
    table: Table
    hits: dict[str, Hits]
    num_answers: int
    num_stopped: int


def tally(splits: Mapping[str, Any], vocabulary: Vocabulary) -> Tally:
    """Goes through every row of the splits, in order."""
    hits = {name: Hits() for name in FINDINGS}
    kept: list[Table] = []
    start = num_answers = num_stopped = 0
    for split in splits.values():
        for batch in batches(split):
            look = Look(batch, vocabulary)
            _add(hits, look, start)
            kept.append(_keep(look))
            num_answers += len(look.answers.rows)
            num_stopped += int(look.answers.stopped.sum())
            start += len(batch.starts)
    table = _joined(kept)
    for name, kind in FINDINGS.items():
        if kind.table is not None:
            hits[name].add(np.flatnonzero(kind.table(table)))
    found = {name: each for name, each in hits.items() if each.count}
    num_rows = {name: len(split) for name, split in splits.items()}
    return Tally(num_rows, table, found, num_answers, num_stopped)


def _add(hits: Mapping[str, Hits], look: Look, start: int) -> None:
    for name, kind in FINDINGS.items():
        if kind.tokens is not None:
            at = kind.tokens(look)
            if not len(at):
                continue
            rows = np.flatnonzero(look.having(at))
            hits[name].tokens.update(look.tokens_at(at))
        elif kind.rows is not None:
            rows = np.flatnonzero(kind.rows(look))
        else:
            continue
        hits[name].add(rows + start)


def _keep(look: Look) -> Table:
    answers, (begin, stop) = look.answers, look.content
    size = len(begin)
    open_ = np.zeros(size, dtype=bool)
    open_[answers.rows[answers.is_open]] = True
    ended = answers.stopped | answers.masked | answers.wrong | answers.is_open
    return Table(
        lengths=np.maximum(stop - begin, 0),
        supervised=look.num_supervised,
        num_cut=_num_cut(look.batch),
        unended=np.bincount(answers.rows[~ended], minlength=size),
        is_open=open_,
    )


def _num_cut(batch: Batch) -> Ints | None:
    return None if batch.num_cut is None else batch.num_cut.astype(np.int64)


def _joined(parts: Iterable[Table]) -> Table:
    listed = list(parts)
    cut = [p.num_cut for p in listed if p.num_cut is not None]

    def joined(name: str, kind: type) -> Any:
        return np.concatenate([np.zeros(0, dtype=kind), *(getattr(p, name) for p in listed)])

    return Table(
        lengths=joined("lengths", np.int64),
        supervised=joined("supervised", np.int64),
        num_cut=joined("num_cut", np.int64) if len(cut) == len(listed) else None,
        unended=joined("unended", np.int64),
        is_open=joined("is_open", bool),
    )
