"""Memory: what glibc is told, and how the end of memory is recognised."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from burnish.models.memory import is_out_of_memory


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
