"""Which rows are held out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import Conversation, Message
from burnish.dataset.split import SPLITS, assign_splits, place
from burnish.recipe import PrepareSection


def asked(question, *, input="", answer="a", origin="x:1"):
    return Conversation((Message("user", question, input), Message("assistant", answer)), origin)


def rows(count):
    return [asked(f"Question {i}?", origin=f"x:{i}") for i in range(count)]


def origins(splits):
    return {name: [c.origin for c in part] for name, part in splits.items()}


def test_the_shares_are_met_on_average():
    section = PrepareSection(validation_size=0.1, test_size=0.2)
    splits = assign_splits(rows(4000), section)
    assert len(splits["test"]) == pytest.approx(800, abs=80)
    assert len(splits["validation"]) == pytest.approx(400, abs=60)


def test_rows_added_later_move_no_old_one():
    section = PrepareSection()
    before = origins(assign_splits(rows(200), section))
    after = origins(assign_splits([*rows(200)[::-1], *rows(300)[200:]], section))
    for name in SPLITS:
        assert set(before[name]) <= set(after[name])


def test_one_question_stays_on_one_side_whatever_its_answers_and_blanks():
    many = [c for i in range(60) for c in (asked(f"Why {i}?"), asked(f" Why\n{i}? ", answer="b"))]
    splits = assign_splits(many, PrepareSection(validation_size=0.3, test_size=0.3))
    for part in splits.values():
        names = ["".join(c.messages[0].content.split()) for c in part]
        assert all(names.count(name) == 2 for name in names)


def test_another_input_makes_another_question():
    section = PrepareSection(validation_size=0.3, test_size=0.3)
    many = [asked("Translate.", input=str(i)) for i in range(60)]
    assert all(assign_splits(many, section).values())


def test_another_seed_holds_out_other_rows():
    first = origins(assign_splits(rows(200), PrepareSection(seed=1)))
    second = origins(assign_splits(rows(200), PrepareSection(seed=2)))
    assert first["test"] != second["test"]


def test_rows_keep_their_order_within_a_split():
    numbers = [int(o[2:]) for o in origins(assign_splits(rows(200), PrepareSection()))["train"]]
    assert numbers == sorted(numbers)


def test_a_share_of_nothing_holds_out_nothing():
    splits = assign_splits(rows(100), PrepareSection(validation_size=0, test_size=0))
    assert [len(splits[name]) for name in SPLITS] == [100, 0, 0]


def test_no_rows_make_empty_splits():
    assert assign_splits([], PrepareSection()) == {"train": [], "validation": [], "test": []}


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.45, 0.45), (0.01, 0.9)])
@pytest.mark.parametrize("count, expected", [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1))])
def test_a_tiny_set_fills_training_first_and_every_split_from_three_on(
    seed, shares, count, expected
):
    section = PrepareSection(validation_size=shares[0], test_size=shares[1], seed=seed)
    splits = assign_splits(rows(count), section)
    sizes = tuple(len(splits[name]) for name in SPLITS)
    if count == 2:
        assert sizes[0] == 1
        assert sum(sizes) == 2
    else:
        assert sizes == expected


@given(
    questions=st.lists(st.sampled_from("abcdefgh"), max_size=12),
    validation=st.floats(0, 0.49),
    test=st.floats(0, 0.49),
    seed=st.integers(0, 50),
)
def test_every_row_is_in_exactly_one_split_and_training_is_never_empty(
    questions, validation, test, seed
):
    many = [asked(q, origin=f"x:{i}") for i, q in enumerate(questions)]
    section = PrepareSection(validation_size=validation, test_size=test, seed=seed)
    splits = assign_splits(many, section)
    found = sorted(o for part in origins(splits).values() for o in part)
    assert found == sorted(c.origin for c in many)
    assert bool(splits["train"]) == bool(many)
    if len(set(questions)) >= 3:
        assert bool(splits["test"]) >= (test > 0)
        assert bool(splits["validation"]) >= (validation > 0)


def test_a_conversation_that_nobody_begins_has_a_place():
    value = place(Conversation((Message("assistant", "Hello"),), "x:1"), 1)
    assert 0 <= value < 1
