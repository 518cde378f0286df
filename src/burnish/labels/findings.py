"""FINDINGS: what can be wrong with labels, by name, each told by a pure function.

One more: write the function, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from burnish.labels.look import Look
from burnish.labels.rows import Ints, Rows

ALWAYS, NEVER = 0.0, 1.0


@dataclass(frozen=True, slots=True)
class Table:
    """What is kept of every row, an entry each, for what only the whole set can tell.

    Attributes:
        lengths: tokens, padding left out.
        supervised: how many of them carry loss.
        num_cut: tokens that were cut; None where the set does not say.
        unended: answers, but for the last, that end without a stop token.
        is_open: whether the last answer goes on to the end of the row without one.
    """

    lengths: Ints
    supervised: Ints
    num_cut: Ints | None
    unended: Ints
    is_open: Rows


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. It is told by the tokens that have it, by the row, or by the whole set.

    Attributes:
        words: what is wrong, for a reader.
        remedy: what to do; `{max_length}` stands for the length that covers 99 % of the rows.
        error_above: it is an error where a greater share of the rows has it, else a warning; with
            `answers`, a greater share of the answers.
        tokens: the positions that have it.
        rows: the rows of a batch that have it.
        table: the rows of a set that have it.
        answers: how many answers of each row have it, where a row may have several.
    """

    words: str
    remedy: str
    error_above: float = ALWAYS
    tokens: Callable[[Look], Ints] | None = None
    rows: Callable[[Look], Rows] | None = None
    table: Callable[[Table], Rows] | None = None
    answers: Callable[[Table], Ints] | None = None


def _other_label_lengths(look: Look) -> Rows:
    return np.not_equal(look.batch.lengths, look.batch.label_lengths)


def _nothing_supervised(look: Look) -> Rows:
    return np.equal(look.num_supervised, look.num_padding_learned)


def _shifted(look: Look) -> Rows:
    return look.is_shifted


def _different(look: Look) -> Ints:
    at = look.different
    return at[~look.is_shifted[look.rows_of(at)]]


def _padding_learned(look: Look) -> Rows:
    return look.num_padding_learned > 0


def _masked_stop(look: Look) -> Ints:
    behind = look.answers.behind[look.answers.masked]
    return np.asarray(behind[look.batch.ids[behind] != look.vocabulary.only("pad")])


def _stop_masked_as_padding(look: Look) -> Ints:
    behind = look.answers.behind[look.answers.masked]
    return np.asarray(behind[look.batch.ids[behind] == look.vocabulary.only("pad")])


def _wrong_stop(look: Look) -> Ints:
    return look.answers.ends[look.answers.wrong]


def _num_unended(table: Table) -> Ints:
    return np.asarray(table.unended + (table.is_open & ~cut(table)))


def _unended(table: Table) -> Rows:
    return np.asarray(_num_unended(table) > 0)


def cut(table: Table) -> Rows:
    """Rows whose end was cut off.

    Where the set does not say so, they are those that are as long as the longest, if there are
    several, and end within an answer.
    """
    if table.num_cut is not None:
        return table.num_cut > 0
    longest = table.lengths == table.lengths.max(initial=0)
    return longest & table.is_open if longest.sum() > 1 else np.zeros(len(longest), dtype=bool)


def _double_bos(look: Look) -> Rows:
    bos, ids = look.vocabulary.only("bos"), look.batch.ids
    begin, stop = look.content
    found = np.zeros(len(begin), dtype=bool)
    rows = np.flatnonzero(stop - begin > 1)
    if bos is not None:
        found[rows] = (ids[begin[rows]] == bos) & (ids[begin[rows] + 1] == bos)
    return found


def _beyond_embedding(look: Look) -> Ints:
    ids, rows = look.batch.ids, look.vocabulary.num_rows
    if not len(ids) or (ids.min() >= 0 and (rows is None or ids.max() < rows)):
        return np.zeros(0, dtype=np.int64)
    outside = (ids < 0) | (ids >= (look.vocabulary.size if rows is None else rows))
    return np.flatnonzero(outside)


def _untrained(look: Look) -> Ints:
    known = look.vocabulary
    found = np.zeros(len(look.safe), dtype=bool)
    if known.untrained.any():
        found |= known.untrained[look.safe]
    if known.unlearnable.any():
        found |= known.unlearnable[look.safe] & look.supervised
    return look.within(found)


def _unknown(look: Look) -> Ints:
    unk = look.vocabulary.unk
    return look.within(look.batch.ids == unk) if unk is not None else np.zeros(0, dtype=np.int64)


def _replacement(look: Look) -> Ints:
    """A token that completes U+FFFD, whose three bytes may stand in one token, two or three."""
    broken, ids = look.vocabulary.broken, look.safe
    ends, begins = broken.ends[ids], broken.begins[ids]
    twice = np.flatnonzero((begins[1:] > 0) & (ends[:-1] + begins[1:] == 3)) + 1
    thrice = np.flatnonzero((ends[:-2] == 1) & (begins[2:] == 1)) + 2
    thrice = thrice[broken.middle[ids[thrice - 1]]]
    found = broken.whole[ids]
    for at, size in ((twice, 1), (thrice, 2)):
        found[at[look.rows_of(at) == look.rows_of(at - size)]] = True
    return look.within(found)


def _beyond_context(look: Look) -> Rows:
    begin, stop = look.content
    limit = look.vocabulary.context
    return (stop - begin) > limit if limit else np.zeros(len(begin), dtype=bool)


_BY_PLACE = "Copy each label from input_ids by its place, and mask by place, never by a token's id."

FINDINGS: dict[str, Kind] = {
    "labels_of_other_length": Kind(
        "labels are more or fewer than input_ids",
        "Pad or cut both alike before saving the set.",
        rows=_other_label_lengths,
    ),
    "nothing_supervised": Kind(
        "no token carries loss, so nothing is learned and the loss is 0 or not a number",
        "Set prepare.max_length: {max_length} if answers were cut off whole; else see how the "
        "answers are found, and leave out rows without one.",
        rows=_nothing_supervised,
    ),
    "shifted_labels": Kind(
        "labels are those of the neighbouring token; training shifts them once more",
        "Leave labels where their tokens are: the model's loss shifts them itself.",
        rows=_shifted,
    ),
    "labels_of_other_tokens": Kind(
        "a label is neither -100 nor the token in its place",
        _BY_PLACE,
        tokens=_different,
    ),
    "padding_in_loss": Kind(
        "padding carries loss, so the model learns to pad",
        "Set labels to -100 wherever attention_mask is 0.",
        rows=_padding_learned,
    ),
    "masked_stop_token": Kind(
        "the stop token behind an answer carries no loss, so the model never learns to stop",
        "Let the mask reach over the token that ends the turn (axolotl: train_on_eos: turn).",
        tokens=_masked_stop,
    ),
    "stop_token_masked_as_padding": Kind(
        "pad is the stop token and was masked by its id, so the model never learns to stop",
        "Give the tokenizer another pad_token. " + _BY_PLACE,
        tokens=_stop_masked_as_padding,
    ),
    "wrong_stop_token": Kind(
        "an answer ends with a control token at which no server stops",
        "Render the rows with the model's own chat template, or add the token to eos_token_id in "
        "generation_config.json.",
        tokens=_wrong_stop,
    ),
    "no_stop_token": Kind(
        "an answer ends without a stop token; the model may never stop",
        "model.end_of_answer: eos",
        error_above=0.5,
        table=_unended,
        answers=_num_unended,
    ),
    "cut_answers": Kind(
        "the answer was cut to the longest length, and its stop token with it",
        "prepare.max_length: {max_length}",
        error_above=NEVER,
        table=cut,
    ),
    "double_bos": Kind(
        "a row begins with two bos tokens: the template and the tokenizer each write one",
        "Encode what the template wrote with add_special_tokens=False.",
        rows=_double_bos,
    ),
    "ids_beyond_embedding": Kind(
        "a token id has no row in the model's embedding: training would crash or read rubbish",
        "Use the model's own tokenizer, or resize the embedding and save the model "
        "(resize_token_embeddings).",
        tokens=_beyond_embedding,
    ),
    "untrained_token": Kind(
        "a token's embedding was never trained, and LoRA leaves embeddings as they are",
        "model.chat_template: plain_en (or an Instruct model, which has them trained)",
        tokens=_untrained,
    ),
    "unknown_tokens": Kind(
        "the tokenizer has no token for some characters and writes its unknown token",
        "Take these characters out of the rows, or choose a model whose tokenizer has them.",
        error_above=NEVER,
        tokens=_unknown,
    ),
    "replacement_characters": Kind(
        "a text holds U+FFFD, what is left of a character that was read wrongly",
        "Mend the rows at their source, where the characters still are: mostly the file was read "
        "in another encoding than it has.",
        error_above=NEVER,
        tokens=_replacement,
    ),
    "longer_than_context": Kind(
        "a row is longer than the model's longest input",
        "prepare.max_length: {context}",
        error_above=NEVER,
        rows=_beyond_context,
    ),
}
