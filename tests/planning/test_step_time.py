from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import get_peft_model

from burnish.models.lora import lora_config
from burnish.planning import step_time
from burnish.planning.batches import Batch, MicroBatches
from burnish.planning.step_time import Pace, Passes, calibrate, estimate, line, passes_of
from burnish.planning.work import Layer, Work
from burnish.recipe import LoraSettings
from tests.conftest import tiny_llama
from tests.planning.made_up import batches, records, silent_loop


def test_rows_of_the_tiny_llama_cost_what_its_products_do():
    model = get_peft_model(tiny_llama(100), lora_config(LoraSettings(r=4)))
    passes = passes_of(model)
    body = 2 * (2 * 1024 + 2 * 512 + 3 * 2048)
    adapter = 4 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
    products = 10 * (4 * body + 6 * adapter) + 4 * 4 * 3200
    assert passes.training(ROW)[0] == products + 14 * 2 * 32 * 50
    assert passes.recomputed == 0


def test_weights_that_learn_themselves_count_the_head_three_times_too():
    one = MicroBatches((Batch(10, 0, (), scores=0), Batch(10, 4, (), scores=0)))
    without, with_loss = passes_of(tiny_llama(100)).training(one)
    assert with_loss - without == 4 * 6 * 3200


def test_the_head_of_an_untied_model_counts_once():
    tied, own = (
        passes_of(
            get_peft_model(tiny_llama(100, tie_word_embeddings=t), lora_config(LoraSettings(r=4)))
        )
        for t in (True, False)
    )
    assert tied == own


def test_the_layers_that_recompute_count_as_a_share():
    model = get_peft_model(tiny_llama(100, num_hidden_layers=8), lora_config(LoraSettings(r=4)))
    assert passes_of(model, num_recomputed=2).recomputed == 0.25


BY_HAND = Work(
    (Layer(10, 10, 1.0), Layer(2, 5, 1.0, learns=True), Layer(5, 10, 1.0, is_head=True)),
    attention_width=0.75,
)
"""100 frozen weights, 10 that learn, a head of 50, and 3 FLOPs a pair of the forward pass."""

ROW = MicroBatches((Batch(10, 4, (), scores=50),))
"""10 computed tokens, 4 of them with loss, 50 pairs in attention."""


def test_flops_of_a_row_by_hand():
    passes = Passes(BY_HAND)
    # Forward 2 x 110 x 10, attention 50 x 3; backward 2 x 100 x 10 + 4 x 10 x 10 and 2.5
    # times attention; the head 4 x 50 x 4.
    forward, attention = 2200, 150
    assert passes.training(ROW)[0] == forward + attention + 2400 + 375 + 800
    assert passes.evaluation(ROW)[0] == forward + attention + 400


@pytest.mark.parametrize(("share", "more"), [(0.0, 0), (0.5, 1175), (1.0, 2350)])
def test_layers_that_recompute_go_forward_twice(share, more):
    plain, again = (Passes(BY_HAND, share).training(ROW)[0] for share in (0.0, share))
    assert again - plain == more


def test_a_line_through_measured_times():
    fixed, rate = line(np.array([100.0, 200.0, 300.0]), np.array([3.0, 4.0, 5.0]))
    assert (fixed, rate) == pytest.approx((2.0, 100.0))


def test_a_line_that_would_begin_below_zero_goes_through_zero():
    assert line(np.array([100.0, 200.0]), np.array([1.0, 3.0])) == pytest.approx((0.0, 75.0))
    assert line(np.array([100.0, 100.0]), np.array([1.0, 1.0])) == pytest.approx((0.0, 100.0))


def test_seconds_of_an_epoch_add_up():
    pace = Pace(fixed=0.5, rate=10.0, cpu_share=1.0, measured="")
    two = batches((10, 5), (20, 5))
    assert pace.seconds(two, np.array([10.0, 20.0])) == 0.5 + 1 + 0.5 + 2
    # Side by side they wait once, and half of an epoch takes half as long.
    both = batches((10, 5), (20, 5), lanes=2, share=0.5)
    assert pace.seconds(both, np.array([10.0, 20.0])) == 2 * (0.5 + 3)


class Clock:
    """A machine that takes 0.5 s for what is at work together and 0.01 s a token, on 0.8 cores."""

    now = 0.0

    def run(self, records):
        self.now += 0.5 + 0.01 * sum(len(ids) for ids, _ in records)

    def perf_counter(self):
        return self.now

    def process_time(self):
        return 0.8 * self.now


def test_a_calibration_tells_what_grows_with_the_tokens_from_what_does_not(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(step_time, "time", clock)
    rows = lambda records: batches((sum(len(ids) for ids, _ in records), 1))  # noqa: E731
    loop = replace(silent_loop(), rows=rows)
    some = records(*[(20, 10)] * 30)
    passes = Passes(Work((Layer(5, 5, 1.0),), 0))  # 100 FLOPs a token
    pace = calibrate(clock.run, some, 300, passes, loop)
    assert pace.fixed == pytest.approx(0.5)
    assert pace.rate == pytest.approx(10_000)
    assert pace.cpu_share == pytest.approx(0.8)
    assert pace.measured == "100, 200, 300 tokens of these rows were run"
    # Twice each and the first once more to warm up.
    assert clock.now == pytest.approx(7 * 0.5 + 0.01 * (2 * 600 + 100))


def test_without_weights_the_loops_rate_stands_in():
    loop = replace(silent_loop(), rate=lambda model, dtype: (5e9, f"{model} in {dtype}"))
    assert estimate("a shape", torch.bfloat16, loop) == Pace(
        0.0, 5e9, 1.0, "a shape in torch.bfloat16"
    )
