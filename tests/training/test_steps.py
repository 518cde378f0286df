"""Which records make up the steps of an epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.training.steps import RankShare, StepBatches, deal


def batches(lengths, *, records=4, tokens=None, seed=0, epoch=0):
    steps = StepBatches(lengths, records=records, tokens=tokens, seed=seed)
    steps.set_epoch(epoch)
    found = list(steps)
    assert len(steps) == len(found)
    return found


def test_a_step_has_so_many_records_and_the_last_one_the_rest():
    assert [len(step) for step in batches([5] * 10, records=4)] == [4, 4, 2]
    assert [len(step) for step in batches([5] * 8, records=4)] == [4, 4]
    assert [len(step) for step in batches([5] * 3, records=4)] == [3]


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(lengths, st.integers(1, 8), st.none() | st.integers(1, 200), st.integers(0, 3))
def test_an_epoch_has_every_record_once_and_no_empty_step(lengths, records, tokens, epoch):
    found = batches(lengths, records=records, tokens=tokens, epoch=epoch)
    assert sorted(i for step in found for i in step) == list(range(len(lengths)))
    assert all(found)


@pytest.mark.parametrize("tokens", [None, 40])
def test_a_seed_and_an_epoch_decide_the_order(tokens):
    first = batches([5, 9, 13] * 10, tokens=tokens)
    assert batches([5, 9, 13] * 10, tokens=tokens) == first
    assert batches([5, 9, 13] * 10, tokens=tokens, epoch=1) != first
    assert batches([5, 9, 13] * 10, tokens=tokens, seed=7) != first


def test_reading_an_epoch_twice_gives_the_same():
    steps = StepBatches([5] * 20, records=3, tokens=None, seed=1)
    assert list(steps) == list(steps)


def test_the_order_is_not_the_files():
    (step,) = batches([1] * 50, records=50)
    assert step != list(range(50))


@given(lengths, st.integers(1, 200))
def test_by_tokens_every_epoch_has_the_same_number_of_steps(lengths, tokens):
    counts = {len(batches(lengths, tokens=tokens, epoch=epoch)) for epoch in range(3)}
    wanted = -(-sum(lengths) // tokens)
    assert counts == {max(1, min(wanted, len(lengths)))}


def test_by_tokens_equal_records_make_equal_steps():
    # 300 tokens in steps of about 60 are five steps of ten records of six tokens.
    assert [len(step) for step in batches([6] * 50, tokens=60)] == [10] * 5


@given(st.lists(st.integers(1, 20), min_size=30, max_size=60), st.integers(100, 200))
def test_by_tokens_a_step_is_off_by_less_than_a_record(lengths, tokens):
    found = batches(lengths, tokens=tokens)
    share = sum(lengths) / len(found)
    for step in found:
        assert abs(sum(lengths[i] for i in step) - share) < max(lengths)


def test_a_step_of_fewer_tokens_than_a_record_has_one_record():
    assert [len(step) for step in batches([100, 3, 50], tokens=1)] == [1, 1, 1]


# --- what a rank takes -----------------------------------------------------------------------


def test_records_are_dealt_so_that_shares_have_about_as_many_tokens():
    # 9 -> first, 7 -> second, 5 -> second (7 < 9), 4 -> first (9 < 12), 1 -> second (12 < 13)
    assert deal([4, 9, 1, 7, 5], 2) == [[0, 1], [2, 3, 4]]
    assert deal([3, 3, 3], 2) == [[0, 2], [1]]
    assert deal([3], 2) == [[0], []]
    assert deal([2, 1], 1) == [[0, 1]]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_all_ranks_together_take_every_step_whole_and_in_its_order(num_ranks):
    lengths = [3, 8, 5, 1, 9, 2, 4, 7, 6, 10]
    steps = StepBatches(lengths, records=4, tokens=None, seed=1)
    shares = [RankShare(steps, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert {len(share) for share in shares} == {3}
    for step, taken in zip(steps, zip(*shares, strict=True), strict=True):
        assert sorted(index for own in taken for index in own) == sorted(step)
        assert all(own == [index for index in step if index in own] for own in taken)
    if num_ranks == 1:
        assert list(shares[0]) == list(steps)


def test_the_last_step_with_fewer_records_than_ranks_leaves_some_without():
    steps = StepBatches([5] * 5, records=4, tokens=None, seed=1)
    last = [list(RankShare(steps, rank=rank, num_ranks=3))[-1] for rank in range(3)]
    assert [len(own) for own in last] == [1, 0, 0]


def test_the_epoch_of_a_share_is_that_of_its_steps():
    steps = StepBatches([1] * 8, records=8, tokens=None, seed=1)
    share = RankShare(steps, rank=0, num_ranks=2)
    first = list(share)
    share.set_epoch(1)
    assert list(share) != first
    assert share.batch_sampler is steps
