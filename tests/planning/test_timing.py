import numpy as np
import pytest
import torch

from burnish.planning.batches import Batch, MicroBatches
from burnish.planning.memory import Place
from burnish.planning.outlook import outlook
from burnish.planning.rows import Rows
from burnish.planning.shape import read_shape
from burnish.planning.step import build
from burnish.planning.step_time import Pace, Passes, passes_of
from burnish.planning.timing import measured_pace, time_look
from burnish.planning.work import Layer, Work
from burnish.training.rehearsal import rehearsed_loop
from tests.planning.made_up import RECIPE, outlook_of, recipe_with, records

PASSES = Passes(Work((Layer(10, 10, 1.0),), 0))
PACE = Pace(fixed=0.0, rate=400.0, cpu_share=0.5, measured="made up")


def rows(count, tokens):
    return MicroBatches(tuple([Batch(tokens, 1, (), scores=0)] * count))


def seen(validation=None):
    # Four rows of 10 tokens, 400 x 10 FLOPs each: 10 seconds; 16 records, 8 a step.
    return outlook_of(RECIPE, 1.0, training=rows(4, 10), validation=validation)


def test_steps_epochs_hours_and_cost_follow_from_the_pace():
    look = time_look(seen(), PACE, PASSES, price_per_hour=3.0)
    assert (look.steps, look.rows_per_epoch) == (6, 4)
    assert look.seconds_per_step == 20.0
    assert look.cpu_seconds_per_step == 10.0
    assert look.seconds_per_epoch == 40.0
    assert look.hours == pytest.approx(120 / 3600, abs=1e-3)
    assert look.cost == 0.1


def test_evaluations_take_their_forward_passes():
    look = time_look(seen(rows(1, 20)), PACE, PASSES, None)
    # 20 tokens at 200 FLOPs are 10 seconds, once an epoch.
    assert look.seconds_of_evaluation == 30.0
    assert look.cost is None


def real_look(tiny_model, **changes):
    recipe = recipe_with(model__name_or_path=str(tiny_model), **changes)
    config = read_shape(tiny_model)
    some, sizes = records(*[(40, 20)] * 16), np.full(16, 40)
    none = sizes[:0]
    these = Rows(sizes, sizes // 2, none, none, some, [], source="made up", estimated=False)
    loop = rehearsed_loop(recipe, config, "cpu")
    return outlook(recipe, config, these, Place("cpu", 0.5), loop)


@pytest.mark.parametrize("backend", ["fast", "transformers"])
@pytest.mark.parametrize("checkpointing", [False, True, 1])
def test_the_pace_of_the_real_model_is_taken_where_it_may_run(tiny_model, backend, checkpointing):
    look = real_look(
        tiny_model, train__backend=backend, train__gradient_checkpointing=checkpointing
    )
    pace = measured_pace(look, tiny_model, PASSES, run=True)
    assert pace.measured.endswith("tokens of these rows were run")
    assert pace.rate > 0


def test_without_running_it_is_an_estimate_that_says_the_type(tiny_model):
    look = real_look(tiny_model, train__bf16=True)
    passes = passes_of(build(look.setting))
    pace = measured_pace(look, tiny_model, passes, run=False)
    assert pace.measured.startswith("an estimate: 75% of this machine's")
    assert pace.measured.endswith("GFLOP/s in bfloat16")


def test_what_a_quantized_base_costs_is_not_guessed(tiny_model):
    look = real_look(tiny_model, model__load_in_4bit=True)
    assert look.setting.bits == 4
    assert measured_pace(look, tiny_model, PASSES, run=False) is None
    assert look.setting.dtype in (torch.float32, torch.bfloat16)
