import numpy as np
import pytest
import torch
from peft import get_peft_model

from burnish.models.lora import lora_config
from burnish.planning.batches import MicroBatches
from burnish.planning.step_time import Pace, Work, calibrate, estimate, line, work_of
from burnish.recipe import LoraSettings
from tests.conftest import tiny_llama


def batches(*shapes):
    sizes, lengths, supervised = np.array(shapes).T
    return MicroBatches(sizes, lengths, sizes * lengths - 1, supervised, len(sizes))


def test_what_a_token_costs_in_the_tiny_llama():
    model = get_peft_model(tiny_llama(100), lora_config(LoraSettings(r=4)))
    work = work_of(model, checkpointing=False)
    linear = 2 * (2 * 1024 + 2 * 512 + 3 * 2048)
    assert work.frozen == linear + 2 * 64 + 32  # norms, too
    assert work.adapter == 4 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
    assert work.head == 3200
    assert work.attention == 4 * 2 * 32


def test_the_head_of_an_untied_model_counts_once():
    tied, own = (
        work_of(
            get_peft_model(tiny_llama(100, tie_word_embeddings=t), lora_config(LoraSettings(r=4))),
            checkpointing=False,
        )
        for t in (True, False)
    )
    assert tied == own


def test_flops_of_a_micro_batch_by_hand():
    work = Work(frozen=100, adapter=10, head=50, attention=3, checkpointing=False)
    batch = batches((2, 5, 4))  # 10 computed tokens
    # Forward 2 x 110 x 10, attention 10 x 5 x 3; backward 2 x 100 x 10 + 4 x 10 x 10 and 2.5
    # times attention; the head 4 x 50 x 4.
    forward, attention = 2200, 150
    assert work.training(batch)[0] == forward + attention + 2400 + 375 + 800
    assert work.evaluation(batch)[0] == forward + attention + 400


def test_recomputing_costs_another_forward_pass():
    batch = batches((2, 5, 4))
    plain, again = (Work(100, 10, 50, 3, checkpointing=c).training(batch)[0] for c in (False, True))
    assert again - plain == 2200 + 150


def test_a_line_through_measured_times():
    fixed, rate = line(np.array([100.0, 200.0, 300.0]), np.array([3.0, 4.0, 5.0]))
    assert (fixed, rate) == pytest.approx((2.0, 100.0))


def test_a_line_that_would_begin_below_zero_goes_through_zero():
    assert line(np.array([100.0, 200.0]), np.array([1.0, 3.0])) == pytest.approx((0.0, 75.0))
    assert line(np.array([100.0, 100.0]), np.array([1.0, 1.0])) == pytest.approx((0.0, 100.0))


def test_seconds_of_micro_batches_add_up():
    pace = Pace(fixed=0.5, rate=10.0, cpu_share=1.0, measured="")
    assert pace.seconds(np.array([10.0, 20.0])) == 0.5 + 1 + 0.5 + 2


def test_a_calibration_measures_and_leaves_the_model_as_it_was():
    model = get_peft_model(tiny_llama(100), lora_config(LoraSettings(r=4))).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    some = batches((2, 30, 10), (2, 60, 20), (2, 120, 40))
    pace = calibrate(model, some, work_of(model, checkpointing=False))
    assert pace.rate > 0
    assert pace.fixed >= 0
    assert 0 < pace.cpu_share < 64
    assert pace.measured == "3 micro batches of this recipe, run 3 times each"
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_without_weights_the_rate_of_a_gemm_stands_in():
    pace = estimate(torch.float32, torch.device("cpu"))
    assert pace.rate > 1e8
    assert pace.measured.startswith("an estimate: 45% of this machine's")
