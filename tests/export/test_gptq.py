"""GPTQ against round-to-nearest and against a naive reference over the whole matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.export.gptq import BLOCK, Hessian, best_scale, quantize_weight


def correlated(width, seed, num_tokens=2048):
    """A Hessian of inputs that go along with each other, their sizes very different."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    sizes = torch.rand(width, generator=generator) * 3 + 0.1
    inputs = torch.randn(num_tokens, width, generator=generator) @ mixing * sizes
    hessian = Hessian(width, torch.device("cpu"))
    hessian.add(inputs)
    return hessian.value()


def weights(rows, width, seed):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 0.05


def weighted_error(weight, other, hessian):
    difference = weight - other
    return float(torch.einsum("oi,ij,oj->", difference, hessian, difference))


def nearest(weight, group_size, bits):
    high = (1 << (bits - 1)) - 1
    parts = []
    for group in weight.split(group_size, dim=1):
        scale = best_scale(group, high)[:, None]
        parts.append((group / scale).round().clamp(-high - 1, high) * scale)
    return torch.cat(parts, dim=1)


def naive(weight, hessian, order, bits, group_size, damp):
    """GPTQ by the letter: after each column, all later columns make up for its error at once."""
    high = (1 << (bits - 1)) - 1
    weight, hessian = weight[:, order].clone(), hessian[order][:, order].clone()
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    hessian += damp * hessian.diagonal().mean() * torch.eye(len(hessian))
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian.double()), upper=True).float()
    out = torch.zeros_like(weight)
    for column in range(weight.shape[1]):
        if column % group_size == 0:
            scale = best_scale(weight[:, column : column + group_size], high)
        out[:, column] = (weight[:, column] / scale).round().clamp(-high - 1, high) * scale
        error = (weight[:, column] - out[:, column]) / factor[column, column]
        weight[:, column + 1 :] -= torch.outer(error, factor[column, column + 1 :])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return out[:, back]


def gptq(weight, hessian, *, bits=4, group_size=32, desc_act=False, damp_percent=0.05):
    return quantize_weight(
        weight,
        hessian,
        bits=bits,
        group_size=group_size,
        desc_act=desc_act,
        damp_percent=damp_percent,
    )


@pytest.mark.parametrize("desc_act", [False, True])
@pytest.mark.parametrize("group_size", [16, 32, 64, 192])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_is_below_that_of_rounding_to_nearest(bits, group_size, desc_act):
    weight, hessian = weights(24, 192, 1), correlated(192, 2)
    result = gptq(weight, hessian, bits=bits, group_size=group_size, desc_act=desc_act)
    ours = weighted_error(weight, result.dequantized(), hessian)
    theirs = weighted_error(weight, nearest(weight, group_size, bits), hessian)
    assert ours < 0.8 * theirs


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), group_size=st.sampled_from([8, 16, 48]), desc_act=st.booleans())
def test_on_any_correlated_inputs_it_is_below_rounding_to_nearest(seed, group_size, desc_act):
    weight, hessian = weights(16, 48, seed), correlated(48, seed + 1, 512)
    result = gptq(weight, hessian, group_size=group_size, desc_act=desc_act)
    assert weighted_error(weight, result.dequantized(), hessian) < weighted_error(
        weight, nearest(weight, group_size, 4), hessian
    )


@pytest.mark.parametrize(
    "width, group_size", [(256, 32), (512, 256), (384, 192), (384, 384), (160, 160), (320, 64)]
)
@pytest.mark.parametrize("desc_act", [False, True])
def test_working_in_blocks_equals_the_naive_reference(width, group_size, desc_act):
    assert BLOCK == 128  # groups below, across and above a block
    weight, hessian = weights(8, width, 3), correlated(width, 4)
    result = gptq(weight, hessian, group_size=group_size, desc_act=desc_act)
    diagonal = hessian.diagonal()
    if desc_act:
        order = diagonal.argsort(descending=True, stable=True)
    else:
        groups = diagonal.view(-1, group_size)
        inner = groups.argsort(dim=1, descending=True, stable=True)
        starts = torch.arange(len(groups))[:, None] * group_size
        order = (inner + starts)[groups.amax(1).argsort(descending=True, stable=True)].flatten()
    expected = naive(weight, hessian, order, 4, group_size, 0.05)
    # A weight on the very border between two integers may fall on either side.
    close = (result.dequantized() - expected).abs() <= 1e-5
    assert close.float().mean() > 0.995
    error = weighted_error(weight, expected, hessian)
    assert weighted_error(weight, result.dequantized(), hessian) == pytest.approx(error, rel=0.01)


def test_groups_keep_their_natural_numbers_without_act_order():
    result = gptq(weights(4, 64, 0), correlated(64, 0), group_size=16)
    assert result.g_idx.tolist() == [i // 16 for i in range(64)]
    assert result.scales.shape == (4, 4)


def test_act_order_numbers_each_column_by_its_place_among_falling_activations():
    hessian = torch.diag(torch.tensor([1.0, 8, 3, 5, 2, 7, 4, 6]))
    result = gptq(weights(4, 8, 0), hessian, group_size=4, desc_act=True)
    # The four largest, columns 1, 5, 7 and 3, make up group 0.
    assert result.g_idx.tolist() == [1, 0, 1, 0, 1, 0, 1, 0]


def test_one_group_a_row_has_one_scale():
    result = gptq(weights(4, 64, 0), correlated(64, 0), group_size=64, desc_act=True)
    assert result.g_idx.tolist() == [0] * 64
    assert result.scales.shape == (4, 1)


def test_integers_stay_within_their_bits():
    weight = weights(4, 64, 0)
    weight[0, 0] = 100.0  # an outlier must not overflow
    for bits, low, high in ((4, -8, 7), (8, -128, 127)):
        integers = gptq(weight, correlated(64, 0), bits=bits).integers
        assert low <= int(integers.min())
        assert int(integers.max()) <= high


def test_inputs_that_never_fire_get_weights_of_zero_and_harm_nothing():
    weight, hessian = weights(8, 64, 0), correlated(64, 1)
    hessian[[3, 40]] = 0
    hessian[:, [3, 40]] = 0
    result = gptq(weight, hessian).dequantized()
    assert torch.isfinite(result).all()
    assert result[:, [3, 40]].abs().max() == 0
    assert weighted_error(weight, result, hessian) < weighted_error(
        weight, nearest(weight, 32, 4), hessian
    )


@pytest.mark.parametrize("hessian", [torch.zeros(64, 64), torch.ones(64, 64) * 1e4])
def test_calibration_without_tokens_or_with_a_single_direction_still_gives_numbers(hessian):
    result = gptq(weights(8, 64, 0), hessian, damp_percent=1e-9).dequantized()
    assert torch.isfinite(result).all()


def test_a_weight_of_zeros_stays_zero():
    result = gptq(torch.zeros(8, 64), correlated(64, 1)).dequantized()
    assert result.abs().max() == 0


def test_a_weight_that_is_on_the_grid_is_kept_exactly():
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(-7, 8, (8, 64), generator=generator).float()
    integers[:, ::32] = 7  # the largest of each group
    weight = integers * 0.125
    assert torch.equal(gptq(weight, correlated(64, 0)).dequantized(), weight)


def test_the_hessian_is_twice_the_mean_of_outer_products():
    hessian = Hessian(2, torch.device("cpu"))
    hessian.add(torch.tensor([[[1.0, 2.0]]]))
    hessian.add(torch.tensor([[3.0, 0.0]]))
    # (1,2) and (3,0): sums 10, 2, 4 over two tokens, times two
    assert hessian.value().tolist() == [[10.0, 2.0], [2.0, 4.0]]
    assert Hessian(2, torch.device("cpu")).value().tolist() == [[0.0, 0.0], [0.0, 0.0]]
