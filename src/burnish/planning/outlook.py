"""A recipe with its rows, batches and memory: what the plan says, and what checks each fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from burnish.errors import DataError
from burnish.models.loading import pick_dtype
from burnish.planning.batches import MicroBatches
from burnish.planning.loops import Loop
from burnish.planning.memory import Device, Memory, Place, memory, setting_of
from burnish.planning.rows import Rows, cut
from burnish.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a recipe will meet.

    Attributes:
        recipe: the recipe.
        training: the micro batches of an epoch.
        validation: the batches of an evaluation; None where none takes place.
        num_cut: answers of training rows that are cut.
        memory: what it takes on the device.
    """

    recipe: Recipe
    training: MicroBatches
    validation: MicroBatches | None
    num_cut: int
    memory: Memory

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch, by the records (or tokens) of one."""
        train = self.recipe.train
        if train.tokens_per_step is not None:
            return -(-int(self.training.tokens.sum()) // train.tokens_per_step)
        records = train.per_device_train_batch_size * train.gradient_accumulation_steps
        return -(-int(self.training.num_records) // records)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        train = self.recipe.train
        if train.max_steps > 0:
            return train.max_steps
        return max(round(self.steps_per_epoch * train.num_train_epochs), 1)

    @property
    def num_evaluations(self) -> int:
        """How often the validation loss is measured."""
        train = self.recipe.train
        if self.validation is None:
            return 0
        if train.eval_strategy == "steps":
            return self.num_steps // (train.eval_steps or train.logging_steps)
        return -(-self.num_steps // self.steps_per_epoch)


def outlook(recipe: Recipe, config: Any, rows: Rows, place: Place) -> Outlook:
    """What a recipe will meet on a device.

    Raises:
        DataError: no row is left after cutting.
    """
    lengths, supervised, num_cut = cut(rows.lengths, rows.supervised, recipe.prepare)
    if not len(lengths):
        raise DataError("plan", "no row is left to train on.", "Raise prepare.max_length.")
    training = place.loop.training(recipe, lengths, supervised)
    validation = _validation(recipe, rows, place.loop)
    setting = setting_of(recipe, config, dtype_on(place.device, recipe.train.bf16))
    needed = memory(recipe, setting, training, validation, place)
    return Outlook(recipe, training, validation, num_cut, needed)


def _validation(recipe: Recipe, rows: Rows, loop: Loop) -> MicroBatches | None:
    lengths, supervised, _ = cut(rows.held_lengths, rows.held_supervised, recipe.prepare)
    if recipe.train.eval_strategy == "no" or not len(lengths):
        return None
    return loop.validation(recipe, lengths, supervised)


def dtype_on(device: Device, bf16: str | bool) -> torch.dtype:
    """The type of the base there, as `models.loading.pick_dtype` chooses it."""
    if device == "cuda" and bf16 == "auto":
        return torch.bfloat16
    return pick_dtype(bf16, training=True)


def with_settings(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with settings of `section.key` changed, checked as if it had been written so."""
    values = recipe.model_dump()
    for name, value in changes.items():
        section, _, key = name.partition(".")
        values[section][key] = value
    return Recipe.model_validate(values)


def percentile_length(rows: Rows, share: float) -> int:
    """The length that so large a share of the rows keeps to, a multiple of 8."""
    exact = float(np.quantile(rows.lengths, share, method="higher"))
    return max(-(-int(exact) // 8) * 8, 8)
