"""Products in 8 bits: by hand, and how far rounding puts them off."""

from __future__ import annotations

import pytest
import torch

from burnish.training.llama.int8 import product, round_rows, round_weight


def test_every_row_is_scaled_so_that_its_largest_entry_becomes_127():
    rounded = round_rows(torch.tensor([[127.0, -63.6, 0.4], [0.0, 0.5, -0.25]]))
    assert rounded.entries.tolist() == [[127, -64, 0], [0, 127, -64]]
    assert rounded.scale.flatten().tolist() == pytest.approx([1.0, 0.5 / 127])


def test_a_row_of_zeros_stays_one():
    rounded = round_rows(torch.zeros(1, 4))
    assert rounded.entries.tolist() == [[0, 0, 0, 0]]
    assert product(rounded, rounded, torch.float32).item() == 0


def test_a_product_of_what_needs_no_rounding_is_exact():
    x, w = torch.tensor([[127.0, 2.0]]), torch.tensor([[1.0, 127.0], [127.0, 0.0]])
    found = product(round_rows(x), round_rows(w), torch.float32)
    assert found.tolist() == [[127 * 1 + 2 * 127, 127 * 127]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (33, 64, 48)])
def test_rounding_puts_products_off_by_about_a_hundredth(shape, dtype):
    torch.manual_seed(0)
    tokens, inner, out = shape
    x, w = torch.randn(tokens, inner, dtype=dtype), torch.randn(out, inner, dtype=dtype)
    weight = round_weight(w)
    assert len(weight) == out
    forward = product(round_rows(x), weight.by_rows, dtype)
    dy = torch.randn(tokens, out, dtype=dtype)
    back = product(round_rows(dy), weight.by_columns, dtype)
    for found, exact in ((forward, x.double() @ w.double().T), (back, dy.double() @ w.double())):
        assert found.dtype == dtype
        assert float((found.double() - exact).norm() / exact.norm()) < 0.02
