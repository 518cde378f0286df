"""Answers, padding and stop tokens in flat arrays, against a slow reading row by row."""

from __future__ import annotations

from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import IGNORE_INDEX
from burnish.labels.look import Look
from burnish.labels.rows import batches
from burnish.labels.vocabulary import look_at_tokens
from tests.conftest import byte_tokenizer
from tests.labels.sets import END, PAD
from tests.rendering.shapes import ids_of

VOCABULARY = look_at_tokens(byte_tokenizer(), None)
BLANK, NEWLINE, LETTER = (ids_of(byte_tokenizer(), text)[0] for text in " \na")
TOKENS = st.tuples(st.sampled_from([PAD, END, BLANK, LETTER, LETTER]), st.booleans())
SETS = st.lists(st.lists(TOKENS, max_size=8), min_size=1, max_size=6)


def look(rows):
    """Rows of (token, carries loss)."""
    columns = {
        "input_ids": [[token for token, _ in row] for row in rows],
        "labels": [[token if on else IGNORE_INDEX for token, on in row] for row in rows],
    }
    (batch,) = batches(Dataset.from_dict(columns))
    return Look(batch, VOCABULARY)


def runs(row):
    """The runs of tokens that carry loss in a row, slowly."""
    found, before = [], False
    for at, (_, on) in enumerate(row):
        if on and not before:
            found.append([])
        if on:
            found[-1].append(at)
        before = on
    return found


def content(row):
    """Where a row stands without its padding, slowly; pad is no stop token here."""
    start, stop = 0, len(row)
    while stop and row[stop - 1][0] == PAD:
        stop -= 1
    while start < stop and row[start][0] == PAD:
        start += 1
    return (0 if start < 2 else start), stop


@given(SETS)
def test_padding_is_what_stands_at_the_ends(rows):
    rows = [row for row in rows if any(token != PAD for token, _ in row)] or [[(LETTER, True)]]
    seen = look(rows)
    begin, stop = seen.content
    base = seen.batch.starts
    assert list(zip((begin - base).tolist(), (stop - base).tolist(), strict=True)) == [
        content(row) for row in rows
    ]


@given(SETS)
def test_answers_are_the_runs_that_carry_loss_and_stop_or_not(rows):
    # A pad within would be padding: letters stand for it.
    rows = [[(LETTER if token == PAD else token, on) for token, on in row] for row in rows]
    answers = look(rows).answers
    expected = []
    for number, row in enumerate(rows):
        for run in runs(row):
            end = run[-1]
            while row[end][0] == BLANK and end > run[0] and run[-1] - end < 4:
                end -= 1
            expected.append((number, row[end][0] == END))
    assert list(zip(answers.rows.tolist(), answers.stopped.tolist(), strict=True)) == expected


def test_white_space_may_stand_around_the_stop_token():
    row = [(LETTER, True), (END, True), (NEWLINE, True), (LETTER, False)]
    assert look([row]).answers.stopped.tolist() == [True]
    row = [(LETTER, True), (BLANK, False), (END, False)]
    answers = look([row]).answers
    assert (answers.stopped.tolist(), answers.masked.tolist()) == ([False], [True])
    assert answers.behind.tolist() == [2]


def test_a_stop_token_of_the_next_row_does_not_count():
    rows = [[(LETTER, False), (LETTER, True)], [(END, False), (LETTER, True), (END, True)]]
    answers = look(rows).answers
    assert answers.masked.tolist() == [False, False]
    assert answers.is_open.tolist() == [True, False]


def test_an_answer_before_a_masked_question_is_not_open():
    answers = look([[(LETTER, True), (LETTER, False)]]).answers
    assert (answers.stopped.tolist(), answers.is_open.tolist()) == ([False], [False])


def test_ids_that_no_tokenizer_has_look_up_nothing():
    seen = look([[(LETTER, True), (5000, True), (-7, True)]])
    assert seen.safe.tolist() == [LETTER, VOCABULARY.size, VOCABULARY.size]
