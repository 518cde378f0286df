"""How many layers must recompute here, by what this machine has left when training begins."""

from __future__ import annotations

import os
from typing import Any

import torch

from burnish.machine import GIB, available_gib, mapped_gib
from burnish.models.names import find_model
from burnish.planning.loops import Device
from burnish.planning.memory import (
    CUDA_SCATTERED,
    LEAST_HOST_GIB,
    OPTIMIZER_BYTES,
    ROOM,
    needed,
    setting_of,
)
from burnish.planning.recomputing import num_recomputed
from burnish.planning.rows import representative
from burnish.planning.shape import read_shape
from burnish.planning.step import Transient, bound_bytes, step_bytes
from burnish.progress import say, warn
from burnish.recipe import ModelSection, TrainSection
from burnish.training import ranks
from burnish.training.rehearsal import loop_of


def layers_to_recompute(
    model: ModelSection,
    section: TrainSection,
    tuned: Any,
    train_set: Any,
    *,
    backend: str,
    compute: torch.dtype,
) -> int:
    """The first so many layers of the model that shall recompute their activations.

    Args:
        model: the recipe's section.
        section: the recipe's section.
        tuned: the model with what learns, on its device, after it was tried out: what it takes by
            itself is taken.
        train_set: the prepared examples.
        backend: what computes the rows.
        compute: the type that it computes in.
    """
    wanted = section.gradient_checkpointing
    num_layers = int(tuned.config.get_text_config().num_hidden_layers)
    if wanted != "auto":
        return num_recomputed(wanted, num_layers, lambda number: 0.0, None)
    device: Device = "cuda" if next(tuned.parameters()).is_cuda else "cpu"
    lengths = [len(ids) for ids in train_set["input_ids"]]
    lanes = torch.get_num_threads() if device == "cpu" else 1
    room = _room_gib(device, tuned, section, lanes)
    bound = bound_bytes(tuned, max(section.row_length, lanes * max(lengths))) / GIB
    if bound <= room:  # so much that nothing need be counted
        return 0
    config = read_shape(find_model(model), trust_remote_code=model.trust_remote_code)
    taken = section.model_copy(update={"backend": backend})
    loop = loop_of(model, taken, config, device, ranks.num_ranks())
    rows = loop.training(representative(train_set))
    setting = setting_of(model, section, config, compute)
    scale = rows.lanes / GIB * (1 + CUDA_SCATTERED if device == "cuda" else 1.0)
    host = max(ROOM["cpu"] * _free_gib("cpu"), LEAST_HOST_GIB)

    def step(number: int) -> Transient:
        return step_bytes(setting, rows.worst, loop, number) * scale

    number = num_recomputed("auto", num_layers, lambda n: needed(step(n), room, host), room)
    _say(number, num_layers, step(number).total, room)
    if step(number).offloaded > host:
        warn(
            f"activations may take {step(number).offloaded:.1f} GiB of the CPU's memory, where "
            f"{host:.1f} are left; lower train.row_length"
        )
    return number


def _room_gib(device: Device, tuned: Any, section: TrainSection, lanes: int) -> float:
    """Memory that is left for activations, once gradients and optimizer have theirs."""
    trained = int(sum(p.numel() for p in tuned.parameters() if p.requires_grad))
    lasting = (4 * lanes + OPTIMIZER_BYTES[section.optim]) * trained / GIB
    return ROOM[device] * _free_gib(device) - lasting


def _free_gib(device: Device) -> float:
    if device == "cuda":
        reserved = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return (torch.cuda.mem_get_info()[0] + reserved) / GIB
    # Weights that are read from a mapped file count as free to the system, but not to training.
    others = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return (available_gib() - mapped_gib()) / others


def _say(number: int, num_layers: int, needed: float, room: float) -> None:
    if needed > room:
        warn(
            f"a row may take {needed:.1f} GiB where {room:.1f} are left, although {number} of "
            f"{num_layers} layers recompute their activations; `burnish plan` knows what helps"
        )
    elif number:
        say(
            f"{number} of {num_layers} layers recompute their activations, so that a row takes "
            f"{needed:.1f} of the {room:.1f} GiB that are left"
        )
