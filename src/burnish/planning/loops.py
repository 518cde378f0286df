"""What a plan asks of a training loop: its rows, and the loss of one.

So what a plan says follows the loop's own code: it packs records as the loop does, runs the loss on
fake tensors for its memory, and on real ones for its time. The trainer's loop is
`training.rehearsal`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from burnish.errors import RecipeError
from burnish.planning.batches import Batch, MicroBatches, Record
from burnish.recipe import Recipe, TrainSection

Device = Literal["cpu", "cuda"]


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Loop:
    """A training loop for a recipe, a model and a device.

    Attributes:
        name: loops of one name compute a row alike.
        training: records -> the rows of an epoch, step by step.
        validation: records -> the rows of an evaluation.
        rows: records -> the rows of one step.
        loss: a model with its adapter, a row, and how many layers recompute -> what computes the
            row's summed loss. What it makes beforehand stays in memory for the whole run.
        run: a model with its adapter, and how many layers recompute -> what takes some records
            forward and back, as many rows at a time as in training.
        rate: a model with its adapter on any device, and the type that it computes in -> FLOPs a
            second that this machine will about reach, and how that was found, in words.
        bucket: how many numbers of gradients are summed over processes at a time.
        smaller: settings that put ever fewer tokens to work at a time, and change nothing else.
        forget: empties the loop's caches, in which tensors must not outlive a trace.
        elsewhere: a host (`live.HostBytes`) and a model -> a context in which what the forward pass
            saves goes to the host; None where it stays on the device.
    """

    name: str
    training: Callable[[Sequence[Record]], MicroBatches] = field(compare=False)
    validation: Callable[[Sequence[Record]], MicroBatches] = field(compare=False)
    rows: Callable[[Sequence[Record]], MicroBatches] = field(compare=False)
    loss: Callable[[Any, Batch, int], Callable[[], Tensor]] = field(compare=False)
    run: Callable[[Any, int], Callable[[Sequence[Record]], None]] = field(compare=False)
    rate: Callable[[Any, torch.dtype], tuple[float, str]] = field(compare=False)
    bucket: int = field(compare=False)
    smaller: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    forget: Callable[[], None] = field(default=_nothing, compare=False)
    elsewhere: Callable[[Any, Any], AbstractContextManager[None]] | None = None


LoopOf = Callable[[Recipe, Any, Device, int], Loop]
"""A recipe, a model's configuration, a device, and how many processes share the work -> the loop
that would train it there."""


def check_offloading(train: TrainSection, device: str) -> None:
    """Refuses to move activations into CPU memory where no GPU holds them.

    Args:
        train: the recipe's section.
        device: the kind of device to train on, as torch calls it.

    Raises:
        RecipeError: it is no CUDA GPU.
    """
    if train.activation_offloading and device != "cuda":
        raise RecipeError(
            "train.activation_offloading",
            f"it moves activations from a GPU's memory to the CPU's, and this run is on {device}.",
            "Set activation_offloading: false; train.gradient_checkpointing saves memory anywhere.",
        )
