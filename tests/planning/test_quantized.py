import pytest
import torch

from burnish.planning.live import LiveBytes
from burnish.planning.quantized import QuantizedLinear, quantize_shape, weight_bytes
from burnish.planning.shape import empty_model
from tests.conftest import tiny_llama

LINEAR = 2 * (2 * 1024 + 2 * 512 + 3 * 2048)
"""Weights of the linear layers of the tiny Llama."""

REST = 3200 + 2 * 64 + 32
"""Its embeddings (tied) and norms."""


def bytes_of(bits):
    model = empty_model(tiny_llama(100).config, torch.bfloat16)
    if bits:
        quantize_shape(model, bits, torch.bfloat16)
    return weight_bytes(model)


def test_a_whole_base_takes_its_types_width():
    assert bytes_of(None) == 2 * (LINEAR + REST)


def test_8_bits_are_a_byte_a_weight_and_a_scale_a_row_and_the_rest_is_float32():
    rows = 2 * (32 + 16 + 16 + 32 + 64 + 64 + 32)
    assert bytes_of(8) == LINEAR + 4 * rows + 4 * REST


def test_4_bits_are_half_a_byte_and_doubly_quantized_scales():
    scales = LINEAR / 64 + 4 * LINEAR / (64 * 256)
    assert bytes_of(4) == pytest.approx(LINEAR / 2 + scales + 4 * REST, abs=1)


@pytest.mark.parametrize(("bits", "kept"), [(8, 4 * 3 * 8), (4, 0)])
def test_what_is_kept_for_the_backward_pass(bits, kept):
    layer = QuantizedLinear(8, 16, bias=False).requires_grad_(False)
    layer.bits = bits
    source = torch.zeros(3, 8, requires_grad=True)
    with LiveBytes([source, layer.weight]) as live:
        x = source * 1  # 96 bytes, kept by nobody else once let go
        y = layer(x)
        del x
        assert live.live == 4 * 3 * 16 + kept + 4 * 0
        y.sum().backward()
    assert source.grad.shape == (3, 8)
