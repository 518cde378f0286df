"""The training loop as a plan asks for it: which rows an epoch has, and the loss of one.

A plan runs the loss on a model of fake tensors, to count what it keeps; so what it says of memory
follows the loop's own code, the fast path included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from burnish.planning.batches import Batch, Ints, MicroBatches, packed
from burnish.planning.loops import Loop
from burnish.planning.memory import Device
from burnish.recipe import Recipe, TrainSection
from burnish.training.llama import attention
from burnish.training.llama.attention import Segment
from burnish.training.llama.model import Unfit, read_model
from burnish.training.packed_model import PackedModel
from burnish.training.packing import Row

SHORTEST_ROW = 256
"""Rows are not made shorter than this to save memory."""


def rehearsed_loop(section: TrainSection, on: Device) -> Loop:
    """The trainer's loop on a device: packed rows, one at a time, through the recipe's backend."""
    return Loop(
        training=_training,
        validation=_validation,
        loss=partial(_loss, section, on),
        smaller=_smaller,
        forget=attention._future.cache_clear,
    )


def _training(recipe: Recipe, lengths: Ints, supervised: Ints) -> MicroBatches:
    train = recipe.train
    records = train.per_device_train_batch_size * train.gradient_accumulation_steps
    if train.tokens_per_step is not None:
        records = max(round(train.tokens_per_step / float(lengths.mean())), 1)
    return packed(
        lengths, supervised, row_length=_row_length(train), records=records, seed=train.seed
    )


def _validation(recipe: Recipe, lengths: Ints, supervised: Ints) -> MicroBatches:
    everything = len(lengths)
    length = _row_length(recipe.train)
    return packed(lengths, supervised, row_length=length, records=everything, seed=0)


def _row_length(train: TrainSection) -> int:
    return train.row_length if train.packing else 1


def _smaller(recipe: Recipe) -> list[dict[str, Any]]:
    """Shorter rows; a longer record has one of its own, so less is not less for ever."""
    lengths, length = [], recipe.train.row_length // 2
    while recipe.train.packing and length >= SHORTEST_ROW:
        lengths.append({"train.row_length": length})
        length //= 2
    return lengths


def _loss(section: TrainSection, on: Device, model: Any, batch: Batch) -> Callable[[], Tensor]:
    """The loss of a row of so many tokens that holds two records."""
    device = next(iter(model.parameters())).device
    places = torch.arange(batch.length, device=device)
    half = batch.length // 2
    row = Row(
        input_ids=torch.zeros_like(places),
        position_ids=places - half * (places >= half),
        segments=(Segment(0, half), Segment(half, batch.length)),
        predictors=places[-batch.supervised - 1 : -1],
        targets=torch.zeros_like(places[-batch.supervised - 1 : -1]),
        num_tokens=batch.length,
    )
    if section.backend == "transformers" or (section.backend == "auto" and on == "cuda"):
        return lambda: PackedModel(model).loss_sum(row)
    try:
        fast = read_model(model)
    except Unfit:
        return lambda: PackedModel(model).loss_sum(row)
    layers = len(fast.layers)
    wanted = section.gradient_checkpointing
    recomputed = layers if isinstance(wanted, bool) else wanted
    if not any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        recomputed = 0
    return lambda: fast.loss_sum(row, num_recomputed=recomputed)
