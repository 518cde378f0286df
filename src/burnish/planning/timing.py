"""From a pace to the time of a whole run, and what it costs."""

from __future__ import annotations

from pathlib import Path

from burnish.models.loading import load_base, pick_device, pick_dtype, set_threads
from burnish.planning.loops import PADDED, Loop
from burnish.planning.outlook import Outlook
from burnish.planning.report import TimeLook
from burnish.planning.step_time import Pace, Work, calibrate, estimate
from burnish.progress import say
from burnish.recipe import Recipe


def measured_pace(
    recipe: Recipe, folder: Path, seen: Outlook, work: Work, *, run: bool, loop: Loop = PADDED
) -> Pace:
    """The pace of this machine: from micro batches of the real model, or from a GEMM's rate.

    Args:
        recipe: the recipe.
        folder: where the model lies.
        seen: its outlook.
        work: what a token costs.
        run: whether micro batches may be run; the weights must be there.
        loop: the training loop.
    """
    set_threads()
    dtype = pick_dtype(recipe.train.bf16, training=True)
    if not run:
        return estimate(dtype, pick_device())
    from peft import get_peft_model

    from burnish.models.lora import lora_config

    say("running a few micro batches for their time")
    base = load_base(folder, recipe.model, dtype=dtype)
    model = get_peft_model(base, lora_config(recipe.train.lora)).train()
    if recipe.train.gradient_checkpointing:
        base.enable_input_require_grads()
        base.gradient_checkpointing_enable()
    return calibrate(model, seen.training, work, loop)


def time_look(seen: Outlook, pace: Pace, work: Work, price_per_hour: float | None) -> TimeLook:
    """Seconds of a step, an epoch, all evaluations, and hours and cost of the whole run."""
    epoch = pace.seconds(work.training(seen.training))
    step = epoch / seen.steps_per_epoch
    once = pace.seconds(work.evaluation(seen.validation)) if seen.validation is not None else 0.0
    evaluation = once * seen.num_evaluations
    hours = (step * seen.num_steps + evaluation) / 3600
    return TimeLook(
        measured=pace.measured,
        micro_batches_per_epoch=len(seen.training.sizes),
        steps=seen.num_steps,
        seconds_per_step=round(step, 3),
        cpu_seconds_per_step=round(step * pace.cpu_share, 3),
        seconds_per_epoch=round(epoch, 1),
        seconds_of_evaluation=round(evaluation, 1),
        hours=round(hours, 3),
        cost=None if price_per_hour is None else round(hours * price_per_hour, 2),
    )
