import numpy as np
import pytest
from datasets import Dataset

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.planning.rows import cut, cut_records, rendered_rows, representative
from burnish.recipe import PrepareSection
from tests.conftest import byte_tokenizer
from tests.planning.made_up import records


def a_conversation(question="What?", answer="That."):
    return Conversation((Message("user", question), Message("assistant", answer)), "rows.json:1")


def test_what_is_cut_is_the_end_of_the_answer():
    section = PrepareSection(max_length=10)
    # The second loses 3 of 5 supervised tokens, the third all 2 of them and is gone.
    lengths, supervised, num_cut = cut(np.array([8, 13, 14]), np.array([4, 5, 2]), section)
    assert list(lengths) == [8, 10]
    assert list(supervised) == [4, 2]
    assert num_cut == 1


def test_a_recipe_that_rejects_long_rows_cuts_none():
    section = PrepareSection(max_length=10, too_long="reject")
    lengths, supervised, num_cut = cut(np.array([10, 13]), np.array([4, 5]), section)
    assert (list(lengths), list(supervised), num_cut) == ([10], [4], 0)


@pytest.mark.parametrize(("too_long", "sizes"), [("cut", [(8, 4), (10, 2)]), ("reject", [(8, 4)])])
def test_records_are_cut_as_their_lengths_are(too_long, sizes):
    section = PrepareSection(max_length=10, too_long=too_long)
    left = cut_records(records((8, 4), (13, 5), (14, 2)), section)
    assert [(len(ids), sum(n != -100 for n in labels)) for ids, labels in left] == sizes


def test_rendered_rows_have_the_templates_tokens_and_the_shares_of_the_splits():
    section = PrepareSection(validation_size=0.2, test_size=0.3)
    rows = rendered_rows([a_conversation()] * 10, byte_tokenizer(), section)
    # <|im_start|>user\nWhat?<|im_end|>\n is 1+5+5+1+1 = 13 bytes-and-marks, the answer's turn
    # <|im_start|>assistant\n (11), That. (5) and <|im_end|> (1) follow; a byte is a token.
    assert set(rows.lengths) == {13 + 11 + 5 + 1}
    assert set(rows.supervised) == {6}
    assert (len(rows.lengths), len(rows.held_lengths)) == (5, 2)
    assert (len(rows.records), len(rows.held_records)) == (5, 2)
    assert [len(part) for part in rows.records[0]] == [30, 30]
    assert rows.estimated
    assert rows.source == "an estimate: 10 of 10 cleaned rows were rendered"


def test_a_recipe_that_learns_each_answer_apart_has_a_record_for_each():
    turns = (*a_conversation().messages, *a_conversation("And?").messages)
    rows = [Conversation(turns, "rows.json:1")] * 10
    sections = [
        PrepareSection(train_on=answers, validation_size=0, test_size=0)
        for answers in ("all", "each")
    ]
    together, apart = (rendered_rows(rows, byte_tokenizer(), section) for section in sections)
    # The first turns take 30 tokens, a line break and "And?" with its answer 30 more.
    assert (len(together.lengths), set(together.lengths), set(together.supervised)) == (
        10,
        {30 + 1 + 29},
        {12},
    )
    assert (len(apart.lengths), sorted(set(apart.lengths)), set(apart.supervised)) == (
        20,
        [30, 30 + 1 + 29],
        {6},
    )


def test_without_a_tokenizer_tokens_are_guessed_and_that_is_said():
    section = PrepareSection(validation_size=0, test_size=0)
    rows = rendered_rows([a_conversation("a" * 40, "好" * 12)] * 2, None, section)
    # 40 / 4 + 5 and 12 / 1.2 + 5: a turn's marks count 5.
    assert list(rows.lengths) == [30, 30]
    assert list(rows.supervised) == [15, 15]
    assert rows.records[0][0][0] != rows.records[1][0][0]  # they share no beginning
    assert "for want of a tokenizer" in rows.source


def test_many_rows_are_sampled_evenly_and_stand_for_all(monkeypatch):
    monkeypatch.setattr("burnish.planning.rows.MOST_LOOKED_AT", 5)
    section = PrepareSection(validation_size=0, test_size=0)
    rows = rendered_rows([a_conversation()] * 20, byte_tokenizer(), section)
    assert len(rows.lengths) == 20
    assert len(rows.records) == 5
    assert "5 of 20 cleaned rows" in rows.source


def test_no_row_is_an_error():
    with pytest.raises(DataError, match="no conversation that can be rendered"):
        rendered_rows([], byte_tokenizer(), PrepareSection())


def a_split(*lengths):
    ids = [[number] * length for number, length in enumerate(lengths)]
    columns = {"input_ids": ids, "labels": ids, "num_cut": [0] * len(lengths)}
    return Dataset.from_dict(columns)


def test_few_rows_stand_for_themselves():
    found = representative(a_split(3, 5, 4))
    assert found == [([0] * 3, [0] * 3), ([1] * 5, [1] * 5), ([2] * 4, [2] * 4)]


def test_of_many_rows_evenly_spread_ones_stand_for_all_and_the_longest(monkeypatch):
    monkeypatch.setattr("burnish.planning.rows.MOST_LOOKED_AT", 3)
    # Every third of seven, and the 9 tokens of the sixth.
    found = representative(a_split(1, 2, 3, 4, 5, 9, 7))
    assert [len(ids) for ids, _ in found] == [1, 4, 9, 7]


def test_an_empty_split_has_none():
    empty = Dataset.from_dict({"input_ids": [[1]], "labels": [[1]], "num_cut": [0]}).select([])
    assert representative(empty) == []
