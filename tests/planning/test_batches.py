import numpy as np
import pytest

from tests.planning.made_up import batch, batches


def test_the_worst_row_is_as_long_as_the_longest_with_as_much_loss_as_any():
    worst = batches((30, 2), (28, 20), (10, 9)).worst
    assert (worst.length, worst.supervised) == (30, 20)
    assert worst.segments == batch(30, 2).segments


def test_no_row_predicts_more_tokens_than_follow_one_another():
    assert batches((30, 2), (28, 27), (5, 1)).worst.supervised == 27
    assert batches((20, 2), (20, 20)).worst.supervised == 19
    assert batches((1, 1)).worst.supervised == 1


def test_what_half_of_an_epoch_has_counts_twice():
    half = batches((10, 5), (6, 3), share=0.5)
    assert half.whole(half.lengths) == 32
    assert half.whole(half.supervised) == 16
    assert half.whole(half.scores) == 2 * (100 + 36)


def test_rows_go_to_work_as_many_at_a_time_as_there_are_lanes():
    assert batches(*[(10, 5)] * 6).num_waves == 6
    assert batches(*[(10, 5)] * 6, lanes=2).num_waves == 3
    assert batches(*[(10, 5)] * 6, lanes=2, share=0.25).num_waves == 12


def test_packing_efficiency_is_tokens_over_places():
    # 24 tokens in three rows that could hold 10 each.
    assert batches((10, 1), (10, 1), (4, 1)).packing_efficiency == pytest.approx(0.8)


def test_arrays_have_an_entry_for_each_row():
    some = batches((10, 5), (6, 3))
    assert list(some.lengths) == [10, 6]
    assert list(some.supervised) == [5, 3]
    assert some.scores.dtype == np.int64
