"""What the tests on a GPU share; each is marked `gpu` and skipped where there is none.

Run them on a machine with one by scripts/test-gpu.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Skips what needs a GPU where there is none; compilers may warn there."""
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("default::UserWarning"))
            if not torch.cuda.is_available():
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def exact_products():
    """Products in full float32, and no memory left of the test before."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
