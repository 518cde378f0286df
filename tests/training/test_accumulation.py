"""Accumulation: rows side by side, and what happens when memory runs out."""

from __future__ import annotations

import pytest
import torch

from burnish.training.accumulation import Accumulation, Packing
from burnish.training.backends import Backend, choose_backend
from burnish.training.loss import PLAIN
from burnish.training.packing import Row
from tests.training.test_trainer import adapted, rows


def accumulation(
    model, *, lanes=1, row_length=1024, limit=None, backend="fast", seen=None, static=False
):
    """An accumulation over a tiny model; rows of more than `limit` tokens run out of memory."""
    chosen = choose_backend(model, rows(), wanted=backend, terms=PLAIN)

    def loss_sum(row):
        if seen is not None:
            seen.append(len(row))
        if limit is not None and len(row) > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return chosen.loss_sum(row)

    learning = [p for p in model.parameters() if p.requires_grad]
    watched = Backend(
        chosen.name, loss_sum, chosen.shares_prefixes, chosen.takes_lanes, static_rows=static
    )
    packing = Packing(row_length, share_prefixes=False)
    return Accumulation(watched, packing, learning, torch.device("cpu"), lanes=lanes)


def result(records, **settings):
    model = adapted()
    work = accumulation(model, **settings)
    loss = work.backward(records, scale=0.25)
    return float(loss), [p.grad.clone() for p in model.parameters() if p.requires_grad], work


def many(copies):
    return rows() * copies


def assert_same(first, second):
    assert first[0] == pytest.approx(second[0], rel=1e-6)
    for one, other in zip(first[1], second[1], strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(one.norm())


@pytest.mark.parametrize("lanes", [2, 3])
def test_lanes_change_neither_loss_nor_gradient(lanes):
    # 8 rows of 4, 7, 10, 13, 5, 8, 11 and 14 tokens are 72; twelve times they are 864.
    expected = result(many(12))
    found = result(many(12), lanes=lanes)
    assert_same(expected, found)


def test_with_lanes_rows_are_shorter_so_that_no_more_tokens_are_at_work():
    seen = []
    result(many(12), lanes=2, row_length=200, seen=seen)
    assert sum(seen) == 864
    assert max(seen) <= 100
    assert len(seen) >= 10


def test_few_tokens_stay_in_one_lane():
    seen = []
    result(many(7), lanes=2, seen=seen)  # 504 tokens, and a lane wants 256
    assert seen == [504]


def test_the_lanes_of_a_step_have_about_as_many_tokens():
    seen = []
    result(many(12), lanes=2, seen=seen)
    assert sorted(seen) == [432, 432]


def test_lanes_give_the_same_bits_every_time():
    first, second = result(many(12), lanes=2), result(many(12), lanes=2)
    assert first[0] == second[0]
    for one, other in zip(first[1], second[1], strict=True):
        assert torch.equal(one, other)


def test_the_number_of_threads_is_what_it_was_after_lanes():
    before = torch.get_num_threads()
    result(many(12), lanes=2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_a_step_that_runs_out_of_memory_goes_again_in_halves(backend, capfd):
    expected = result(many(1), backend=backend)
    seen = []
    found = result(many(1), limit=40, seen=seen, backend=backend)
    assert_same(expected, found)
    # All 72 tokens at once, then rows of at most 36.
    assert seen[0] == 72
    assert max(seen[1:]) <= 36
    assert sum(seen[1:]) == 72
    assert found[2].packing.row_length == 36
    said = capfd.readouterr().err
    assert "memory ran out: from here on rows have 36 tokens, 1 at a time" in said


def test_shorter_rows_stay_for_the_steps_that_follow():
    seen = []
    model = adapted()
    work = accumulation(model, limit=40, seen=seen)
    work.backward(many(1), scale=1.0)
    seen.clear()
    work.backward(many(1), scale=1.0)
    assert sum(seen) == 72
    assert max(seen) <= 36


def test_gradients_of_rows_before_the_one_that_failed_count_once():
    model = adapted()
    calls = []
    work = accumulation(model, row_length=20)
    own = work._backend.loss_sum

    def second_fails_once(row):
        calls.append(len(row))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(row)

    work._backend = Backend("fast", second_fails_once, shares_prefixes=True)
    loss = work.backward(many(1), scale=0.25)
    found = float(loss), [p.grad for p in model.parameters() if p.requires_grad]
    assert_same(result(many(1)), found)


def test_lanes_are_given_up_when_single_records_are_too_much(capfd):
    records = [(list(range(3, 31)) * 10, [-100] * 20 + (list(range(3, 31)) * 10)[20:])] * 2
    seen = []
    failed = []
    model = adapted()
    work = accumulation(model, lanes=2, seen=seen)
    own = work._backend.loss_sum

    def two_at_once_fail(row):
        if work.lanes == 2:
            failed.append(len(row))
            raise MemoryError
        return own(row)

    work._backend = Backend("fast", two_at_once_fail, shares_prefixes=False, takes_lanes=True)
    work.backward(records, scale=1.0)
    assert failed == [280, 280]
    assert work.lanes == 1
    assert "rows have 280 tokens, 1 at a time" in capfd.readouterr().err


def test_a_single_record_that_does_not_fit_is_an_error():
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        result(rows()[:1], limit=3)


def test_another_error_is_not_taken_for_memory():
    model = adapted()
    work = accumulation(model)
    work._backend = Backend("fast", lambda row: 1 / 0, shares_prefixes=False)
    with pytest.raises(ZeroDivisionError):
        work.backward(rows(), scale=1.0)


@pytest.mark.parametrize("settings", [{}, {"lanes": 2}, {"row_length": 20}, {"limit": 40}], ids=str)
def test_the_loss_without_gradients_is_the_same_whatever_the_rows(settings):
    model = adapted()
    expected = accumulation(model).backward(many(4), scale=1.0)
    assert accumulation(model, **settings).loss_sum(many(4)) == pytest.approx(
        float(expected), rel=1e-6
    )


# --- rows of one length, and rows packed ahead -----------------------------------------------


def test_rows_that_shall_all_be_of_one_length_are_and_change_nothing():
    seen = []
    found = result(many(4), row_length=50, backend="transformers", static=True, seen=seen)
    assert_same(result(many(4), backend="transformers"), found)
    assert set(seen) == {50}


def test_rows_of_one_length_that_are_too_long_become_half_as_long():
    seen = []
    found = result(many(4), row_length=50, backend="transformers", static=True, seen=seen, limit=40)
    assert_same(result(many(4), backend="transformers"), found)
    assert (seen[0], set(seen[1:])) == (50, {25})


def test_without_packing_no_row_is_padded():
    seen = []
    work = accumulation(adapted(), backend="transformers", static=True, seen=seen)
    work.packing = Packing(1024, is_on=False)
    work.backward(many(1), scale=1.0)
    assert sorted(seen) == [4, 5, 7, 8, 10, 11, 13, 14]


@pytest.fixture
def on_gpu(monkeypatch):
    """Lets an accumulation on a CPU pack ahead as it would for a GPU."""
    monkeypatch.setattr(Row, "pinned", lambda row: row)

    def ahead(work, records):
        work._device = torch.device("cuda")
        started = work.ahead(records)
        work._device = torch.device("cpu")
        return started

    return ahead


def test_rows_packed_ahead_are_those_that_the_step_would_have_packed(on_gpu, monkeypatch):
    expected = result(many(3), row_length=40)
    model = adapted()
    work = accumulation(model, row_length=40)
    ahead = on_gpu(work, many(3))
    monkeypatch.setattr(Packing, "rows", None)  # nothing is packed a second time
    loss = work.backward(many(3), scale=0.25, ahead=ahead)
    assert float(loss) == expected[0]
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(map(torch.equal, gradients, expected[1]))


def test_rows_packed_before_memory_ran_out_are_packed_anew(on_gpu):
    seen = []
    work = accumulation(adapted(), limit=40, seen=seen)
    first, second = on_gpu(work, many(1)), on_gpu(work, many(1))
    work.backward(many(1), scale=1.0, ahead=first)
    assert seen[0] == 72
    seen.clear()
    work.backward(many(1), scale=1.0, ahead=second)
    assert max(seen) <= 36


def test_an_error_of_the_packing_thread_is_the_steps(on_gpu):
    work = accumulation(adapted())
    with pytest.raises(ValueError, match="not enough values to unpack"):
        work.backward(many(1), scale=1.0, ahead=on_gpu(work, [([3, 4],)]))


def test_on_a_cpu_nothing_is_packed_ahead():
    assert accumulation(adapted()).ahead(many(1)) is None
