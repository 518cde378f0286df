"""RMSNorm, rotation and SwiGLU against values by hand and against autograd of the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from burnish.training.llama.pointwise import (
    rms_norm,
    rms_norm_backward,
    rotate,
    swiglu,
    swiglu_backward,
    wide,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(
    "dtype, expected",
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_sums_are_made_in_float32_or_wider(dtype, expected):
    assert wide(torch.zeros(1, dtype=dtype)).dtype == expected


def test_rms_norm_divides_by_the_root_of_the_mean_square():
    x = torch.tensor([[1.0, 7.0]])  # the mean square is 25
    y, r = rms_norm(x, torch.tensor([1.0, 2.0]), 0.0)
    torch.testing.assert_close(y, torch.tensor([[0.2, 2.8]]))
    torch.testing.assert_close(r, torch.tensor([[0.2]]))


def test_eps_keeps_a_row_of_zeros_finite():
    y, r = rms_norm(torch.zeros(1, 4), torch.ones(4), 1e-4)
    assert y.tolist() == [[0, 0, 0, 0]]
    assert float(r) == pytest.approx(100)


def test_rms_norm_leaves_its_input_alone_and_keeps_its_type():
    x = normal(3, 8).bfloat16()
    before = x.clone()
    y, r = rms_norm(x, torch.ones(8, dtype=torch.bfloat16), 1e-6)
    assert torch.equal(x, before)
    assert (y.dtype, r.dtype) == (torch.bfloat16, torch.float32)


def test_the_derivative_of_rms_norm_is_autograds():
    x, weight, dy = normal(5, 3, 8).requires_grad_(), normal(8, seed=1), normal(5, 3, 8, seed=2)
    plain = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    (expected,) = torch.autograd.grad(plain, x, dy)
    y, r = rms_norm(x.detach(), weight, 1e-3)
    torch.testing.assert_close(y, plain.detach())
    kept = dy.clone()
    torch.testing.assert_close(rms_norm_backward(dy, x.detach(), r, weight), expected)
    assert torch.equal(dy, kept)


def turned(x, cos, sin):
    out = torch.empty_like(x)
    rotate(x, cos, sin, out=out)
    return out


def test_a_quarter_turn_takes_the_first_half_to_the_second():
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    zero, one = torch.zeros(1, 1, 2), torch.ones(1, 1, 2)
    assert turned(x, zero, one).tolist() == [[[-3, -4, 1, 2]]]
    assert turned(x, one, zero).tolist() == [[[1, 2, 3, 4]]]


def test_a_turn_by_sixty_degrees_is_the_rotation_of_each_pair():
    x = torch.tensor([[[1.0, 0.0, 0.0, 2.0]]], dtype=torch.float64)
    cos = torch.full((1, 1, 2), 0.5, dtype=torch.float64)
    sin = torch.full((1, 1, 2), math.sqrt(3) / 2, dtype=torch.float64)
    half = math.sqrt(3) / 2
    expected = pytest.approx([0.5, -2 * half, half, 1.0])
    assert turned(x, cos, sin).flatten().tolist() == expected
    assert x.flatten().tolist() == [1, 0, 0, 2]
    rotate(x, cos, sin, out=x)
    assert x.flatten().tolist() == expected


def test_the_result_of_a_turn_may_lie_in_another_order_and_a_smaller_type():
    x, angles = normal(5, 2, 3, 8).float(), normal(5, 1, 1, 4, seed=3).float()
    out = torch.empty(2, 5, 3, 8, dtype=torch.bfloat16)
    rotate(x, angles.cos(), angles.sin(), out=out.transpose(0, 1))
    expected = turned(x, angles.cos(), angles.sin()).transpose(0, 1).bfloat16()
    assert torch.equal(out, expected)


def test_turning_by_the_negative_sine_is_the_derivative():
    angles = normal(7, 1, 4, seed=3)
    x, dy = normal(7, 2, 8).requires_grad_(), normal(7, 2, 8, seed=1)
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    plain = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    (expected,) = torch.autograd.grad(plain, x, dy)
    torch.testing.assert_close(turned(x.detach(), cos, sin), plain.detach())
    torch.testing.assert_close(turned(dy, cos, -sin), expected)


def test_swiglu_is_gate_times_its_sigmoid_times_up():
    # silu(ln 3) = ln 3 · 3/4; silu(0) = 0
    gate, up = torch.tensor([math.log(3), 0.0]), torch.tensor([4.0, 5.0])
    assert swiglu(gate, up)[0].tolist() == pytest.approx([3 * math.log(3), 0.0])


def test_the_derivative_of_swiglu_is_autograds():
    gate, up = (normal(5, 7, seed=seed).requires_grad_() for seed in (0, 2))
    da = normal(5, 7, seed=1)
    expected = torch.autograd.grad(gate * torch.sigmoid(gate) * up, [gate, up], da)
    given = [x.detach().clone() for x in (da, gate, up)]
    found = swiglu_backward(*given, swiglu(*given[1:])[1])
    torch.testing.assert_close(found, expected)
    for kept, x in zip(given, (da, gate, up), strict=True):
        assert torch.equal(kept, x.detach())


def test_the_derivatives_pass_gradcheck():
    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            y, ctx.r = rms_norm(x, weight, 1e-5)
            ctx.save_for_backward(x, weight)
            return y

        @staticmethod
        def backward(ctx, dy):
            x, weight = ctx.saved_tensors
            return rms_norm_backward(dy, x, ctx.r, weight), None

    class SwiGlu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, gate, up):
            ctx.save_for_backward(gate, up)
            return swiglu(gate, up)[0]

        @staticmethod
        def backward(ctx, da):
            gate, up = ctx.saved_tensors
            return swiglu_backward(da, gate, up, swiglu(gate, up)[1])

    assert gradcheck(Norm.apply, (normal(3, 4).requires_grad_(), normal(4, seed=1)))
    assert gradcheck(SwiGlu.apply, tuple(normal(3, 4, seed=s).requires_grad_() for s in (2, 3)))
