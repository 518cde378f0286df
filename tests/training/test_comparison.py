"""Two ways to compute the same rows: what is tried, measured, and taken for a difference."""

from __future__ import annotations

import pytest
import torch

from burnish.training.comparison import (
    PROBE_TOKENS,
    Measured,
    device_of,
    difference,
    measure,
    nudged,
    probe_of,
    tolerance_of,
)
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from tests.training.family import adapted, build, records


def test_long_records_are_cut_to_where_something_is_learned():
    ids = list(range(3, 60)) * 10
    found = probe_of([(ids, [-100] * 400 + ids[400:]), ([5, 6], [-100, -100])])
    # The only record with something to learn, twice; it begins half a probe before that.
    assert len(found) == 2
    assert found[0] == found[1]
    cut, labels = found[0]
    assert (len(cut), cut[0]) == (PROBE_TOKENS, ids[400 - PROBE_TOKENS // 2])
    assert labels.index(ids[400]) == PROBE_TOKENS // 2


def test_three_records_are_tried():
    given = records((9, 20, 30, 12))
    assert probe_of(given) == given[:3]


def test_what_starts_at_zero_is_moved_for_a_while_and_put_back_also_after_an_error():
    model = adapted(build("Llama"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.zero_()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}

    def moved():
        return {n: not torch.equal(p, before[n]) for n, p in model.named_parameters()}

    def fail():
        with nudged(model):
            assert moved() == {n: "lora_B" in n for n, _ in model.named_parameters()}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(moved().values())


def test_the_loss_and_the_gradient_of_all_rows_are_measured_and_leave_nothing_behind():
    model = adapted(build("Llama"), ["q_proj"])
    rows = pack(records((9, 40)), 8, share_prefixes=False)
    found = measure(model, PackedModel(model).loss_sum, rows)
    with torch.no_grad():
        expected = sum(float(PackedModel(model).loss_sum(row)) for row in rows)
    assert found.loss == pytest.approx(expected)
    # A [4, 24] and B [24, 4] in both layers.
    assert found.gradient.shape == (2 * (4 * 24 + 24 * 4),)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "loss, gradient, equal",
    [
        (2.0, [3.0, 4.0], True),
        (2.0, [3.0, 4.4], True),  # 0.4 of a norm of 5 is 0.08
        (2.0, [3.0, 4.6], False),  # 0.12
        (2.019, [3.0, 4.0], True),  # within a tenth of 0.1, of 2
        (2.021, [3.0, 4.0], False),
    ],
)
def test_a_tenth_of_the_gradients_tolerance_is_allowed_to_the_loss(loss, gradient, equal):
    own = Measured(2.0, torch.tensor([3.0, 4.0]))
    said = difference(own, Measured(loss, torch.tensor(gradient)), tolerance=0.1)
    assert (said == "") is equal


def test_a_difference_is_said_in_numbers():
    own = Measured(2.0, torch.tensor([3.0, 4.0]))
    said = difference(own, Measured(2.5, torch.tensor([3.0, 9.0])), tolerance=0.1)
    assert said == (
        "its loss is 2.5 where the model's own is 2, and its gradients differ by 1.0e+00"
    )


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-6), (torch.float32, 1e-3), (torch.bfloat16, 0.3)]
)
def test_the_tolerance_goes_by_the_type_that_the_model_computes_in(dtype, tolerance):
    model = adapted(build("Llama").to(dtype))
    assert tolerance_of(model) == tolerance
    model.get_base_model().is_quantized = True
    assert tolerance_of(model) == 0.3


def test_a_model_is_where_its_weights_are():
    assert device_of(build("Llama").to("meta")) == torch.device("meta")


def test_under_autocast_the_tolerance_goes_by_its_type():
    model = adapted(build("Llama"))
    exact = tolerance_of(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tolerance_of(model) == 0.3 > exact
