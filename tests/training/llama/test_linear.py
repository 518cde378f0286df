"""Frozen layers side by side with their updates: by hand, and against autograd."""

from __future__ import annotations

import pytest
import torch

from burnish.training.llama.int8 import round_weight
from burnish.training.llama.linear import Stack, stack_backward, stack_forward


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def stack_of(*weights, scales=None, biases=None):
    none = (None,) * len(weights)
    return Stack(weights, biases or none, scales or none)


def test_an_update_adds_to_its_own_layer_times_its_factor():
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    biases = (None, torch.tensor([0.0, 10.0]))
    stack = stack_of(first, second, scales=(None, 0.5), biases=biases)
    pair = (torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0], [4.0]]))
    (one, other), u = stack_forward(torch.tensor([[5.0, 3.0]]), stack, [pair])
    assert u.tolist() == [[2.0]]  # 5 - 3
    assert one.tolist() == [[5]]
    assert other.tolist() == [[3 + 0.5 * 2 * 2, 5 + 3 + 10 + 0.5 * 2 * 4]]


def test_without_updates_it_is_the_frozen_layer():
    x, weight = normal(4, 3), normal(5, 3, seed=1)
    (y,), u = stack_forward(x, stack_of(weight), [])
    torch.testing.assert_close(y, x @ weight.T)
    assert u is None
    dx, gradients = stack_backward([normal(4, 5)], x, u, stack_of(weight), [])
    torch.testing.assert_close(dx, normal(4, 5) @ weight)
    assert gradients == []


@pytest.mark.parametrize("rounded", [(0,), (1,), (0, 1)])
def test_any_of_the_layers_may_be_in_8_bits(rounded):
    # Every row has a largest entry of 127, so nothing is rounded.
    weights = [torch.tensor([[127.0, 2.0]]), torch.tensor([[3.0, 127.0], [127.0, 0.0]])]
    stack = stack_of(*(round_weight(w) if i in rounded else w for i, w in enumerate(weights)))
    (one, other), _ = stack_forward(torch.tensor([[127.0, 1.0]]), stack, [])
    assert one.tolist() == [[127 * 127 + 2]]
    assert other.tolist() == [[127 * 3 + 127, 127 * 127]]


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_gradients_are_autograds(with_bias):
    sizes, scales = [3, 4, 2], (2.0, None, 0.25)  # the middle one has no update
    weights = [normal(n, 4, seed=n) for n in sizes]
    biases = [normal(n, seed=10 + n) if with_bias and n != 4 else None for n in sizes]
    x = normal(6, 4).requires_grad_()
    pairs = [
        (normal(2, 4, seed=3).requires_grad_(), normal(3, 2, seed=4).requires_grad_()),
        (normal(1, 4, seed=5).requires_grad_(), normal(2, 1, seed=6).requires_grad_()),
    ]
    plain = [torch.nn.functional.linear(x, w, b) for w, b in zip(weights, biases, strict=True)]
    (a0, b0), (a1, b1) = pairs
    plain[0] = plain[0] + 2 * x @ a0.T @ b0.T
    plain[2] = plain[2] + 0.25 * x @ a1.T @ b1.T
    dys = [normal(6, n, seed=7 + n) for n in sizes]
    expected = torch.autograd.grad(plain, [x, a0, b0, a1, b1], dys)
    stack = stack_of(*weights, scales=scales, biases=tuple(biases))
    with torch.no_grad():
        ys, u = stack_forward(x, stack, pairs)
        dx, gradients = stack_backward(dys, x, u, stack, pairs)
        _, without_dx = stack_backward(dys, x, u, stack, pairs, wants_dx=False)
    for y, other in zip(ys, plain, strict=True):
        torch.testing.assert_close(y, other.detach())
    assert u.shape == (6, 2 + 1)
    for found in (gradients, without_dx):
        flat = [g for pair in found for g in pair]
        for one, other in zip(flat, expected[1:], strict=True):
            torch.testing.assert_close(one, other)
    torch.testing.assert_close(dx, expected[0])


def test_an_input_gradient_that_nobody_wants_is_not_made():
    x = normal(4, 2)
    dx, _ = stack_backward([normal(4, 3)], x, None, stack_of(normal(3, 2)), [], wants_dx=False)
    assert dx.numel() == 0
