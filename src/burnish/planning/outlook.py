"""A recipe with its rows, batches and memory: what the plan says, and what checks each fix."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from burnish.errors import DataError
from burnish.models.loading import pick_dtype
from burnish.planning.batches import Ints, MicroBatches, Record
from burnish.planning.loops import Device, Loop
from burnish.planning.memory import Memory, Place, memory, setting_of
from burnish.planning.rows import Rows, cut, cut_records
from burnish.planning.step import Setting
from burnish.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a recipe will meet.

    Attributes:
        recipe: the recipe.
        place: where it is trained.
        loop: the loop that trains it.
        setting: what the memory of a row depends on beside it.
        records: the records that were looked at, cut as prepare cuts them.
        lengths: tokens of all training records.
        supervised: how many of them carry loss.
        training: the rows of an epoch.
        validation: the rows of an evaluation; None where none takes place.
        num_cut: answers of training records that are cut.
        memory: what it takes on the device.
    """

    recipe: Recipe
    place: Place
    loop: Loop
    setting: Setting
    records: Sequence[Record]
    lengths: Ints
    supervised: Ints
    training: MicroBatches
    validation: MicroBatches | None
    num_cut: int
    memory: Memory

    @property
    def fits(self) -> bool:
        """Whether it fits into the memory that there is."""
        room, host = self.place.room_gib, self.place.host_gib
        goes_elsewhere = host is None or self.memory.offloaded <= host
        return goes_elsewhere and (room is None or self.memory.peak <= room)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch, by the records (or tokens) of one."""
        train = self.recipe.train
        if train.tokens_per_step is not None:
            wanted = -(-int(self.lengths.sum()) // train.tokens_per_step)
            return max(1, min(wanted, len(self.lengths)))
        records = train.per_device_train_batch_size * train.gradient_accumulation_steps
        return -(-len(self.lengths) // records)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        train = self.recipe.train
        if train.max_steps > 0:
            return train.max_steps
        return math.ceil(self.steps_per_epoch * train.num_train_epochs)  # as the trainer counts

    @property
    def num_evaluations(self) -> int:
        """How often the validation loss is measured."""
        train = self.recipe.train
        if self.validation is None:
            return 0
        if train.eval_strategy == "steps":
            return self._times_every(train.eval_steps or train.logging_steps)
        return self._times_every(self.steps_per_epoch)

    @property
    def num_checkpoints(self) -> int:
        """How often a checkpoint is written."""
        train = self.recipe.train
        if train.save_strategy == "no":
            return 0
        by_steps = train.save_strategy == "steps"
        return self._times_every(train.save_steps if by_steps else self.steps_per_epoch)

    def _times_every(self, steps: int) -> int:
        """How often something is done every so many steps, and behind the last one."""
        return -(-self.num_steps // steps)


def outlook(recipe: Recipe, config: Any, rows: Rows, place: Place, loop: Loop) -> Outlook:
    """What a recipe will meet on a device.

    Raises:
        DataError: no row is left after cutting.
    """
    lengths, supervised, num_cut = cut(rows.lengths, rows.supervised, recipe.prepare)
    records = cut_records(rows.records, recipe.prepare)
    if not len(lengths) or not records:
        raise DataError("plan", "no row is left to train on.", "Raise prepare.max_length.")
    training = dataclasses.replace(loop.training(records), share=_share(records, lengths))
    validation = _validation(recipe, rows, loop)
    dtype = dtype_on(place.device, recipe.train.bf16)
    setting = setting_of(recipe.model, recipe.train, config, dtype)
    needed = memory(recipe, setting, training, validation, place, loop)
    return Outlook(
        recipe,
        place,
        loop,
        setting,
        records,
        lengths,
        supervised,
        training,
        validation,
        num_cut,
        needed,
    )


def _validation(recipe: Recipe, rows: Rows, loop: Loop) -> MicroBatches | None:
    lengths, _, _ = cut(rows.held_lengths, rows.held_supervised, recipe.prepare)
    records = cut_records(rows.held_records, recipe.prepare)
    if recipe.train.eval_strategy == "no" or not len(lengths) or not records:
        return None
    return dataclasses.replace(loop.validation(records), share=_share(records, lengths))


def _share(records: Sequence[Record], lengths: Ints) -> float:
    """How many of all tokens the records have."""
    return sum(len(ids) for ids, _ in records) / float(lengths.sum())


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
