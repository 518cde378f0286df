import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from burnish.planning.experts import shapes_of_grouped_products
from burnish.planning.live import LiveBytes
from burnish.planning.step import step_bytes
from tests.planning.made_up import batch, own_forward
from tests.planning.test_step import architectures, quiet_about_experts, real_peak, setting


@pytest.mark.parametrize(("learns", "kept"), [(False, 0), (True, 4 * 6 * 8)])
def test_the_input_is_kept_where_the_weights_learn(learns, kept):
    with FakeTensorMode(), shapes_of_grouped_products():
        weight = torch.empty(3, 8, 5, requires_grad=learns)
        source = torch.empty(6, 8, requires_grad=True)
        with LiveBytes([weight, source]) as live:
            x = source * 1
            y = torch.nn.functional.grouped_mm(x, weight, offs=torch.tensor([1, 2, 6]))
            del x
            assert y.shape == (6, 5)
            assert live.live == 4 * 6 * 5 + kept
            y.sum().backward()
        assert source.grad.shape == (6, 8)
        assert (weight.grad is not None) == learns


def test_outside_products_have_values_as_ever():
    with shapes_of_grouped_products():
        pass
    x, weight = torch.ones(2, 16), torch.ones(1, 16, 16)
    y = torch.nn.functional.grouped_mm(x, weight, offs=torch.tensor([2], dtype=torch.int32))
    assert y.tolist() == [[16.0] * 16] * 2


@quiet_about_experts
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_take_on_fake_tensors_what_they_take(dtype):
    *_, config = architectures()
    row, loop = batch(64, 10), own_forward(config)
    planned = step_bytes(setting(config, dtype=dtype), row, loop).total
    assert planned == pytest.approx(real_peak(config, row, loop, dtype=dtype), rel=0.1)
