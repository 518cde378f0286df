"""Memory: what glibc is told, how the end of memory is recognised, and smaller batches then."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import OutOfMemoryError
from burnish.models.memory import in_batches, in_smaller_pieces, is_out_of_memory


@pytest.mark.parametrize("name", ["steady_heap", "warm_heap", "trim_heap"])
def test_the_heap_can_be_told_what_to_keep_where_there_is_glibc(name):
    code = f"from burnish.models.memory import {name}; print({name}())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(
    "error, is_it",
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_the_end_of_memory_is_told_from_other_errors(error, is_it):
    assert is_out_of_memory(error) == is_it


def test_what_torch_says_when_a_cpu_has_no_more_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


# --- smaller batches ------------------------------------------------------------------------------


class Doubling:
    """Doubles numbers; memory runs out at some of its calls, unless a single number is asked for.

    Attributes:
        sizes: of all batches, those that failed among them.
        done: the numbers that were doubled.
    """

    def __init__(self, *failing, error=None):
        self.sizes = []
        self.done = []
        self._failing = failing
        self._error = error or torch.OutOfMemoryError("CUDA out of memory")

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(self.sizes) in self._failing and len(batch) > 1:
            raise self._error
        self.done += batch
        return [2 * number for number in batch]


def doubled(work, count, size):
    results = in_batches(
        list(range(count)),
        work,
        size=size,
        what="double",
        name=lambda number: f"the number {number}",
        remedy="Take smaller numbers.",
    )
    return list(results)


@pytest.mark.parametrize(
    "failing, sizes",
    [
        ([], [4, 4, 2]),
        ([1], [4, 2, 2, 2, 2, 2]),
        ([2], [4, 4, 2, 2, 2]),
        ([3], [4, 4, 2, 1, 1]),  # the last two: one is half of what failed
        ([1, 2], [4, 2, *[1] * 10]),
        ([2, 4], [4, 4, 2, 2, 1, 1, 1, 1]),
    ],
    ids=str,
)
def test_a_batch_that_does_not_fit_is_halved_and_later_ones_stay_so(failing, sizes):
    work = Doubling(*failing)
    assert doubled(work, 10, 4) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert work.sizes == sizes
    assert work.done == list(range(10))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")],
    ids=str,
)
def test_memory_of_a_cpu_counts_as_that_of_a_gpu(error):
    work = Doubling(1, error=error)
    assert doubled(work, 3, 3) == [0, 2, 4]
    assert work.sizes == [3, 1, 1, 1]


def test_each_halving_is_one_line_that_says_where_and_to_what(capfd):
    doubled(Doubling(2, 4), 10, 4)
    assert capfd.readouterr().err == (
        "warning: double: memory ran out over 4 at a time; from here on it is 2\n"
        "warning: double: memory ran out over 2 at a time; from here on it is 1\n"
    )


def test_one_that_does_not_fit_alone_is_an_error_with_its_name_and_a_remedy():
    def work(batch):
        if 2 in batch:
            raise MemoryError
        return batch

    with pytest.raises(OutOfMemoryError) as caught:
        doubled(work, 5, 5)
    assert str(caught.value) == (
        "double: memory ran out over the number 2 alone.\n  Take smaller numbers."
    )


def test_another_error_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        doubled(Doubling(1, error=ZeroDivisionError()), 5, 5)


def test_nothing_to_work_on_is_no_work():
    work = Doubling()
    assert doubled(work, 0, 4) == []
    assert work.sizes == []


@given(st.integers(0, 40), st.integers(1, 16), st.sets(st.integers(1, 30)))
def test_whenever_memory_runs_out_each_item_is_done_once_and_in_order(count, size, failing):
    work = Doubling(*failing)
    assert doubled(work, count, size) == [2 * number for number in range(count)]
    assert work.done == list(range(count))
    assert work.sizes == sorted(work.sizes, reverse=True)


def test_what_failed_holds_no_memory_any_more_when_it_goes_again():
    held = []

    def work():
        if held:
            return held[0]()
        block = torch.zeros(8)
        held.append(weakref.ref(block))
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert in_smaller_pieces(work, lambda: True) is None


def test_work_that_can_be_no_smaller_raises_what_it_met():
    error = MemoryError()
    with pytest.raises(MemoryError) as caught:
        in_smaller_pieces(lambda: Doubling(1, error=error)([1, 2]), lambda: False)
    assert caught.value is error


PRODUCTS = """
import sys

import torch
from burnish.models.memory import keep_products

keep_products(int(sys.argv[1]))
torch.set_num_threads(1)
weight = torch.zeros(64, 64, dtype=torch.bfloat16)


def anonymous():
    status = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def multiply(lengths):
    for length in lengths:
        torch.zeros(length, 64, dtype=torch.bfloat16) @ weight


multiply(range(100, 140))
before = anonymous()
multiply(range(140, 340))
print(anonymous() - before)
"""


def grown(number, **variables):
    """MiB that 200 shapes of products took, where so many may be kept."""
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS, str(number)],
        env={name: x for name, x in os.environ.items() if "CACHE_CAPACITY" not in name} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists() or not torch.cpu._is_avx512_bf16_supported(),
    reason="a Linux machine where oneDNN makes programs for bfloat16",
)
def test_of_what_is_made_for_products_only_so_much_is_kept():
    assert grown(20) < 20
    # What a user has set stays.
    unlimited = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
    assert grown(20, **unlimited) > 50
