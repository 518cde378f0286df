"""From a pace to the time of a whole run, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from burnish.models.loading import load_base, own_dtype, pick_dtype, set_threads
from burnish.models.trainable import held_in, make_trainable
from burnish.planning.outlook import Outlook
from burnish.planning.report import TimeLook
from burnish.planning.step import build
from burnish.planning.step_time import Pace, Passes, calibrate, estimate
from burnish.progress import say
from burnish.recipe import Recipe


def measured_pace(seen: Outlook, folder: Path, passes: Passes, *, run: bool) -> Pace | None:
    """The pace of this machine: from rows of the real model, or from a matrix product's rate.

    None for a quantized base that may not be run: what unpacking costs is not known.

    Args:
        seen: the outlook of a recipe.
        folder: where the model lies.
        passes: what rows cost.
        run: whether rows may be run; the weights must be there.
    """
    set_threads()
    recipe = seen.recipe
    dtype = pick_dtype(recipe.train.bf16, training=True)
    if run:
        say("running a few rows for their time")
        model = _tuned(recipe, folder, dtype)
        go = seen.loop.run(model, seen.memory.recomputed_layers)
        tokens = seen.training.worst.length * seen.training.lanes
        return calibrate(go, seen.records, tokens, passes, seen.loop)
    if recipe.model.load_in_8bit or recipe.model.load_in_4bit:
        return None
    return estimate(build(seen.setting), dtype, seen.loop)


def _tuned(recipe: Recipe, folder: Path, compute: torch.dtype) -> Any:
    """The model with what learns, ready to be run; its initial values don't matter."""
    held = held_in(recipe.train, compute, own_dtype(folder))
    base = load_base(folder, recipe.model, dtype=held)
    return make_trainable(base, recipe.train, initialize=False).train()


def time_look(seen: Outlook, pace: Pace, passes: Passes, price_per_hour: float | None) -> TimeLook:
    """Seconds of a step, an epoch, all evaluations, and hours and cost of the whole run."""
    epoch = pace.seconds(seen.training, passes.training(seen.training))
    step = epoch / seen.steps_per_epoch
    evaluation = 0.0
    if seen.validation is not None:
        once = pace.seconds(seen.validation, passes.evaluation(seen.validation))
        evaluation = once * seen.num_evaluations
    hours = (step * seen.num_steps + evaluation) / 3600
    return TimeLook(
        measured=pace.measured,
        rows_per_epoch=round(len(seen.training.batches) / seen.training.share),
        steps=seen.num_steps,
        seconds_per_step=round(step, 3),
        cpu_seconds_per_step=round(step * pace.cpu_share, 3),
        seconds_per_epoch=round(epoch, 1),
        seconds_of_evaluation=round(evaluation, 1),
        hours=round(hours, 3),
        cost=None if price_per_hour is None else round(hours * price_per_hour, 2),
    )
