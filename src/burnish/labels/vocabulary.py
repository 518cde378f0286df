"""What an audit of labels must know of a model's tokens, as tables with an entry for each id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from burnish.labels.rows import Ints, Rows
from burnish.models.embedding import TokenRows, read_token_rows
from burnish.rendering import day_of, has_live_date, stop_token_ids
from burnish.templates.new_tokens import new_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("eos", "bos", "pad")

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BLANK = set(" \n\t\rĠĊĉč▁")
"""White space as byte-level and SentencePiece tokens write it."""

_BROKEN = "ï¿½"
"""The bytes EF BF BD of U+FFFD as byte-level tokens write them."""

_NUM_SAMPLED = 2_000


@dataclass(frozen=True, slots=True)
class Broken:
    """What a token has of the bytes of U+FFFD, tables over ids.

    Attributes:
        whole: all three.
        ends: how many of them it ends with, 0 to 2.
        begins: how many of them it begins with that are still wanted, 0 to 2.
        middle: it is the second alone.
    """

    whole: Rows
    ends: NDArray[np.int8]
    begins: NDArray[np.int8]
    middle: Rows


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model. Tables have one entry more than there are tokens: for unknown ids.

    Attributes:
        names: each token's own name.
        stops: what ends an answer.
        special: the ids of eos, bos and pad by file: tokenizer, config, generation_config.
        unk: the unknown token, if it is no more than that.
        blank: whether a token is white space.
        control: whether it is a special token.
        broken: what it has of U+FFFD.
        untrained: whether its row in the embedding was never trained.
        unlearnable: whether that in the head never was, where the model has a head of its own.
        embedding_checked: whether the weights were at hand to tell.
        num_rows: how many tokens the embedding knows; None where that can't be had.
        context: the longest input of the model, in tokens; None where its config does not say.
        day: the day that the chat template writes as today, where it is pinned to one.
        has_live_date: whether it writes another date every day.
    """

    names: list[str]
    stops: frozenset[int]
    special: dict[str, dict[str, list[int]]]
    unk: int | None
    blank: Rows
    control: Rows
    broken: Broken
    untrained: Rows
    unlearnable: Rows
    embedding_checked: bool
    num_rows: int | None
    context: int | None
    day: str | None = None
    has_live_date: bool = False

    @property
    def size(self) -> int:
        """How many tokens the tokenizer has."""
        return len(self.names)

    def only(self, kind: str) -> int | None:
        """The tokenizer's eos, bos or pad."""
        ids = self.special["tokenizer"][kind]
        return ids[0] if ids else None

    def name_of(self, token: int) -> str:
        """A token's name, or its number where there is none."""
        return self.names[token] if 0 <= token < self.size else f"id {token}"

    def is_stop(self, ids: Ints) -> Rows:
        """Whether each id ends an answer."""
        found = np.zeros(len(ids), dtype=bool)
        for stop in self.stops:
            found |= ids == stop
        return found


def look_at_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path | None) -> Vocabulary:
    """The vocabulary of a tokenizer and of the model in a folder, as far as its files are there."""
    config = _read(folder, "config.json")
    text = config.get("text_config", config)
    generation = _read(folder, "generation_config.json")
    special = {
        "tokenizer": {k: _listed(getattr(tokenizer, f"{k}_token_id")) for k in SPECIAL},
        "config": {k: _listed(text.get(f"{k}_token_id")) for k in SPECIAL},
        "generation_config": {k: _listed(generation.get(f"{k}_token_id")) for k in SPECIAL},
    }
    names = _names(tokenizer)
    stops = frozenset([*stop_token_ids(tokenizer), *special["generation_config"]["eos"]])
    tables = read_token_rows(folder) if folder else []
    added = np.array(sorted(tokenizer.added_tokens_decoder), dtype=np.int64)
    new = new_token_ids(tokenizer)  # their rows are made, and trained
    control = np.zeros(len(names) + 1, dtype=bool)
    control[[i for i, t in tokenizer.added_tokens_decoder.items() if t.special]] = True
    unk = tokenizer.unk_token_id
    return Vocabulary(
        names=names,
        stops=stops,
        special=special,
        unk=None if unk in {*stops, tokenizer.bos_token_id, tokenizer.eos_token_id} else unk,
        blank=np.array([*(bool(n) and set(n) <= _BLANK for n in names), False]),
        control=control,
        broken=_broken(names),
        untrained=_untrained(tables[:1], np.setdiff1d(added, new), len(names)),
        unlearnable=_untrained(tables[1:], np.setdiff1d(added, new), len(names)),
        embedding_checked=bool(tables),
        num_rows=_with_new(tables[0].num_rows if tables else text.get("vocab_size"), new),
        context=text.get("max_position_embeddings"),
        day=day_of(tokenizer),
        has_live_date=has_live_date(tokenizer),
    )


def _with_new(num_rows: int | None, new: list[int]) -> int | None:
    return None if num_rows is None else max([num_rows, *(i + 1 for i in new)])


def _read(folder: Path | None, name: str) -> Mapping[str, Any]:
    """A JSON object of the model; empty where it is not there or broken."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8")) if folder else {}
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _listed(ids: Any) -> list[int]:
    if ids is None:
        return []
    return list(ids) if isinstance(ids, list) else [int(ids)]


def _names(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The name of each id up to the last; ids between that are not used have an empty one."""
    by_id = {i: name for name, i in tokenizer.get_vocab().items()}
    return [by_id.get(i, "") for i in range(max(by_id, default=-1) + 1)]


def _broken(names: list[str]) -> Broken:
    size = len(names) + 1
    whole, middle = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    ends, begins = np.zeros(size, dtype=np.int8), np.zeros(size, dtype=np.int8)
    for i, name in enumerate(names):
        if byte := _BYTE.fullmatch(name):
            name = chr(int(byte[1], 16))
        name = name.replace("\ufffd", _BROKEN)
        whole[i] = _BROKEN in name
        middle[i] = name == _BROKEN[1]
        ends[i] = 2 if name.endswith(_BROKEN[:2]) else name.endswith(_BROKEN[0])
        begins[i] = 2 if name.startswith(_BROKEN[1:]) else name.startswith(_BROKEN[2])
    return Broken(whole, ends, begins, middle)


def _untrained(tables: list[TokenRows], added: Ints, size: int) -> Rows:
    """Added tokens whose row in the tables was never trained.

    Such a row is zero, or the mean of all rows (what transformers gives to new tokens), or the same
    as another added token's.
    """
    found = np.zeros(size + 1, dtype=bool)
    for table in tables:
        known = added[(added < table.num_rows) & (added < size)]
        if not len(known):
            continue
        step = max(table.num_rows // _NUM_SAMPLED, 1)
        sample = table.rows(np.arange(0, table.num_rows, step))
        mean = sample.mean(axis=0)
        spread = float(np.median(np.linalg.norm(sample - mean, axis=1)))
        usual = float(np.median(np.linalg.norm(sample, axis=1)))
        rows = table.rows(known)
        _, same, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        bad = np.linalg.norm(rows, axis=1) <= 1e-3 * usual
        bad |= np.linalg.norm(rows - mean, axis=1) <= 1e-2 * spread
        bad |= counts[same.reshape(-1)] > 1
        found[known[bad]] = True
    return found
