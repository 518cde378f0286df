"""Frozen layers side by side with their updates: by hand, and against autograd."""

from __future__ import annotations

import pytest
import torch

from burnish.training.llama.int8 import round_weight
from burnish.training.llama.linear import Stack, Update, stack_backward, stack_forward


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_an_update_adds_to_its_own_columns_times_its_scale():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    stack = Stack((weight[:1], weight[1:]), torch.tensor([0.0, 0.0, 10.0]), (Update(1, 3, 0.5),))
    pair = (torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0], [4.0]]))
    y, us = stack_forward(torch.tensor([[5.0, 3.0]]), stack, [pair])
    assert us[0].tolist() == [[2.0]]  # 5 - 3
    assert y.tolist() == [[5, 3 + 0.5 * 2 * 2, 5 + 3 + 10 + 0.5 * 2 * 4]]


def test_without_updates_it_is_the_frozen_layer():
    x, weight = normal(4, 3), normal(5, 3, seed=1)
    y, us = stack_forward(x, Stack((weight,), None, ()), [])
    torch.testing.assert_close(y, x @ weight.T)
    assert us == []
    dx, gradients = stack_backward(normal(4, 5), x, us, Stack((weight,), None, ()), [])
    torch.testing.assert_close(dx, normal(4, 5) @ weight)
    assert gradients == []


@pytest.mark.parametrize("rounded", [(0,), (1,), (0, 1)])
def test_any_of_the_layers_may_be_in_8_bits(rounded):
    # Every row has a largest entry of 127, so nothing is rounded.
    weights = [torch.tensor([[127.0, 2.0]]), torch.tensor([[3.0, 127.0], [127.0, 0.0]])]
    stack = Stack(
        tuple(round_weight(w) if i in rounded else w for i, w in enumerate(weights)), None, ()
    )
    y, _ = stack_forward(torch.tensor([[127.0, 1.0]]), stack, [])
    assert y.tolist() == [[127 * 127 + 2, 127 * 3 + 127, 127 * 127]]


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_gradients_are_autograds(with_bias):
    weight, bias = normal(9, 4, seed=1), normal(9, seed=2) if with_bias else None
    # Layers of 3, 4 and 2 columns; the middle one has no update.
    stack = Stack(weight.split([3, 4, 2]), bias, (Update(0, 3, 2.0), Update(7, 9, 0.25)))
    x = normal(6, 4).requires_grad_()
    pairs = [
        (normal(2, 4, seed=3).requires_grad_(), normal(3, 2, seed=4).requires_grad_()),
        (normal(1, 4, seed=5).requires_grad_(), normal(2, 1, seed=6).requires_grad_()),
    ]
    plain = x @ weight.T + (0 if bias is None else bias)
    (a0, b0), (a1, b1) = pairs
    update = torch.cat([2 * x @ a0.T @ b0.T, torch.zeros(6, 4), 0.25 * x @ a1.T @ b1.T], 1)
    plain = plain + update
    dy = normal(6, 9, seed=7)
    expected = torch.autograd.grad(plain, [x, a0, b0, a1, b1], dy)
    with torch.no_grad():
        y, us = stack_forward(x, stack, pairs)
        dx, gradients = stack_backward(dy, x, us, stack, pairs)
    torch.testing.assert_close(y, plain.detach())
    found = [dx, *(g for pair in gradients for g in pair)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_an_input_gradient_that_nobody_wants_is_not_made():
    stack, x = Stack((normal(3, 2),), None, ()), normal(4, 2)
    dx, _ = stack_backward(normal(4, 3), x, [], stack, [], wants_dx=False)
    assert dx.numel() == 0


def test_the_input_gradient_is_added_to_that_of_another_stack():
    weight, dy, other = normal(3, 2), normal(4, 3, seed=1), normal(4, 2, seed=2)
    stack, expected = Stack((weight,), None, ()), other + dy @ weight
    dx, _ = stack_backward(dy, normal(4, 2, seed=3), [], stack, [], dx=other)
    torch.testing.assert_close(dx, expected)
