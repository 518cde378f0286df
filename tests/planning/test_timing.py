import dataclasses

import numpy as np
import pytest
import torch

from burnish.planning.batches import MicroBatches
from burnish.planning.outlook import Outlook, with_settings
from burnish.planning.shape import empty_model, with_adapter
from burnish.planning.step_time import Pace, Work, work_of
from burnish.planning.timing import measured_pace, time_look
from tests.conftest import tiny_llama
from tests.planning.test_fixes import RECIPE, memory_of

WORK = Work(frozen=100, adapter=0, head=0, attention=0, checkpointing=False)
PACE = Pace(fixed=0.0, rate=400.0, cpu_share=0.5, measured="made up")


def seen(validation=None):
    # Four micro batches of 10 tokens, 400 x 10 FLOPs each: 10 seconds; 8 of 16 records a step.
    ones = np.ones(4, dtype=np.int64)
    batches = MicroBatches(ones, 10 * ones, 10 * ones, ones, num_records=16)
    return Outlook(RECIPE, batches, validation, 0, memory_of(1.0))


def test_steps_epochs_hours_and_cost_follow_from_the_pace():
    look = time_look(seen(), PACE, WORK, price_per_hour=3.0)
    assert (look.steps, look.micro_batches_per_epoch) == (6, 4)
    assert look.seconds_per_step == 20.0
    assert look.cpu_seconds_per_step == 10.0
    assert look.seconds_per_epoch == 40.0
    assert look.hours == pytest.approx(120 / 3600, abs=1e-3)
    assert look.cost == 0.1


def test_evaluations_take_their_forward_passes():
    one = np.ones(1, dtype=np.int64)
    look = time_look(
        seen(MicroBatches(one, 20 * one, 20 * one, one, num_records=1)), PACE, WORK, None
    )
    # 20 tokens at 200 FLOPs are 10 seconds, once an epoch.
    assert look.seconds_of_evaluation == 30.0
    assert look.cost is None


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_pace_of_the_real_model_is_taken_where_it_may_run(tiny_model, checkpointing):
    recipe = with_settings(
        RECIPE,
        {"model.name_or_path": str(tiny_model), "train.gradient_checkpointing": checkpointing},
    )
    adapted = with_adapter(empty_model(tiny_llama(259).config, torch.float32), recipe.train.lora)
    work = work_of(adapted, checkpointing=checkpointing)
    look = dataclasses.replace(seen(), recipe=recipe)
    assert "micro batches" in measured_pace(recipe, tiny_model, look, work, run=True).measured
    assert "GFLOP/s" in measured_pace(recipe, tiny_model, look, work, run=False).measured
