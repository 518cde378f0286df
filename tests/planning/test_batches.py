import numpy as np
import pytest

from burnish.planning.batches import (
    Batch,
    grouped_order,
    length_grouped,
    num_packed_rows,
    packed,
    packing_efficiency,
    sorted_batches,
)


def test_rows_are_sorted_within_a_group_and_the_longest_comes_first():
    lengths = np.arange(100, 164)
    # 64 rows, batches of 2: groups of min(64 // 8, 50) x 2 = 16 rows.
    order = grouped_order(lengths, 2, np.random.default_rng(0))
    assert sorted(order) == list(range(64))
    assert lengths[order[0]] == 163
    for start in range(0, 64, 16):
        rest = lengths[order[start + 1 : start + 16]]  # the first may have been swapped
        assert list(rest) == sorted(rest, reverse=True)


def test_a_micro_batch_is_as_long_as_its_longest_row():
    lengths, supervised = np.array([5, 9, 7]), np.array([1, 2, 3])
    batches = sorted_batches(lengths, supervised, 2)
    assert list(batches.sizes) == [2, 1]
    assert list(batches.lengths) == [7, 9]
    assert list(batches.tokens) == [12, 9]
    assert list(batches.supervised) == [4, 2]
    assert list(batches.padded) == [14, 9]
    assert batches.padding_share == pytest.approx(1 - 21 / 23)


def test_an_epoch_holds_every_row_once_whatever_the_seed():
    lengths = np.array([3, 8, 5, 2, 9, 4, 7])
    for seed in range(5):
        batches = length_grouped(lengths, lengths - 1, size=2, accumulation=2, seed=seed)
        assert list(batches.sizes) == [2, 2, 2, 1]
        assert batches.tokens.sum() == 38
        assert batches.supervised.sum() == 31
        assert batches.lengths[0] == 9


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [([10], 1), ([5, 5], 1), ([6, 5], 2), ([7, 3, 6, 4], 2), ([6, 5, 4, 3, 2], 2), ([10] * 3, 3)],
)
def test_rows_of_ten_that_hold_all(lengths, rows):
    assert num_packed_rows(lengths, 10) == rows


def test_the_rows_of_each_step_are_packed_first_fit_decreasing():
    lengths, supervised = np.array([6, 4, 3, 7, 12]), np.array([2, 1, 1, 3, 5])
    batches = packed(lengths, supervised, row_length=10, records=5, seed=0)
    # 12 has a row of its own; then 7 + 3 and 6 + 4.
    assert list(batches.lengths) == [12, 10, 10]
    assert list(batches.supervised) == [5, 4, 3]
    assert list(batches.sizes) == [1, 1, 1]
    assert batches.num_records == 5
    assert batches.padding_share == 0


def test_records_are_packed_within_their_step_alone():
    lengths = np.array([5] * 6)
    batches = packed(lengths, lengths, row_length=100, records=2, seed=0)
    assert list(batches.lengths) == [10, 10, 10]


def test_a_batch_with_padding_is_told_from_one_without():
    batches = sorted_batches(np.array([5, 7, 7, 7]), np.array([1, 2, 3, 0]), 2)
    assert batches.batch(0) == Batch(2, 7, 3, padded=True)
    assert batches.batch(1) == Batch(2, 7, 3, padded=False)


def test_packing_efficiency_is_tokens_over_places():
    # 6 + 4 and 5 + 3 + 2 fill two rows of 10; 1 opens a third.
    assert packing_efficiency([6, 5, 4, 3, 2, 1], 10) == pytest.approx(21 / 30)
