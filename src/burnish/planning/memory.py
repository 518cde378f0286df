"""What training takes in memory, by part, on this CPU or on a GPU.

On a CPU (checked against measured peaks, docs/LOG.md), as resident memory of the process:

    peak = libraries + weights + mapped file + adapters + gradients x lanes + optimizer
           + lanes x the larger of (a training row's, a validation row's activations and logits)

with as many lanes as rows are at work at a time; or, where that is more, what loading takes: the
libraries, the weights, and the file that they are converted from.

On a GPU (not checked on one yet), as memory that the driver counts:

    peak = context + workspace + weights + adapters + gradients + optimizer
           + (activations + logits) x (1 + 5 % that the caching allocator rounds and scatters)

where activations that are offloaded are not counted: they lie in memory of the CPU.

Adapter, gradient and AdamW's two moments are float32: 4 + 4 + 8 bytes a trained weight. Activations
and logits come from `step.step_bytes`. A file of weights stays mapped, and its pages count, as long
as one tensor is used from it as it lies there: always in the file's own type, and with a quantized
base whose embeddings are.

Sources: Dettmers et al., "QLoRA", 2023, and bitsandbytes (quantized widths); Korthikanti et al.,
"Reducing Activation Recomputation in Large Transformer Models", 2022 (that activations, not
parameters, are what grows); NVIDIA, "cuBLAS: CUBLAS_WORKSPACE_CONFIG", and PyTorch, "CUDA
semantics: memory management" (workspace 8 MiB, 32 MiB on Hopper; blocks of 2 MiB).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict

from burnish.machine import GIB
from burnish.planning.batches import MicroBatches
from burnish.planning.loops import Device, Loop
from burnish.planning.quantized import QuantizedLinear, weight_bytes
from burnish.planning.recomputing import num_recomputed
from burnish.planning.step import Setting, Transient, build, evaluation_bytes, step_bytes
from burnish.recipe import ModelSection, Recipe, TrainSection

CUDA_CONTEXT_GIB = 0.5
"""What a process pays for CUDA's context and the kernels of torch."""

CUDA_WORKSPACE_GIB = 32 / 1024
"""cuBLAS's workspace at its largest."""

CUDA_SCATTERED = 0.05
"""Share by which the caching allocator holds more than is in use."""

CPU_SCATTERED_GIB = 0.05
"""Small blocks that the heap keeps, and buffers of MKL and oneDNN."""

OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "adamw_bnb_8bit": 2.03,
    "paged_adamw_32bit": 8.0,
    "paged_adamw_8bit": 2.03,
    "lion_32bit": 4.0,
    "lion_8bit": 1.02,
    "adafactor": 0.5,
    "sgd": 0.0,
    "muon": 4.0,
    "galore_adamw": 8.0,
    "galore_adamw_8bit": 2.03,
    "galore_adafactor": 0.5,
    "apollo_adamw": 8.0,
}
"""Bytes of state a trained weight; 8-bit states have a scale per 256; adafactor keeps rows and
columns of a matrix, which for LoRA's narrow ones is some of it."""

Moment = Literal["loading", "training", "validation"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where training is to take place.

    Attributes:
        device: a CPU, or a CUDA GPU.
        libraries_gib: what a process takes that has loaded the libraries and nothing else.
        room_gib: what it may take in all; None where nobody knows.
        host_gib: what may be offloaded into the CPU's memory; None where nobody knows.
    """

    device: Device
    libraries_gib: float
    room_gib: float | None = None
    host_gib: float | None = None


class Memory(BaseModel):
    """GiB by part at the worst moment of training on a device, and their sum.

    Where loading takes more than that sum, `peak` is what loading takes. `offloaded` is beside it,
    in pinned memory of the CPU.
    """

    model_config = ConfigDict(frozen=True)

    dtype: str
    weights: float
    adapters: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    others: float
    peak: float
    worst_moment: Moment
    recomputed_layers: int
    offloaded: float = 0.0


ROOM: dict[Device, float] = {"cpu": 0.9, "cuda": 0.95}
"""Share of free memory that a plan fills: the rest is for its error, and for others."""


def setting_of(
    model: ModelSection, train: TrainSection, config: Any, dtype: torch.dtype
) -> Setting:
    """What a recipe says of a step's memory."""
    bits = 8 if model.load_in_8bit else 4 if model.load_in_4bit else None
    return Setting(config=config, train=train, bits=bits, dtype=dtype)


def memory(
    recipe: Recipe,
    setting: Setting,
    training: MicroBatches,
    validation: MicroBatches | None,
    place: Place,
    loop: Loop,
) -> Memory:
    """What a recipe takes at the worst moment of its training.

    Args:
        recipe: the recipe.
        setting: what a step's memory depends on, from `setting_of`.
        training: the rows of an epoch.
        validation: the rows of an evaluation, if there is any.
        place: where it is trained.
        loop: by which loop.
    """
    lasting = _lasting(recipe, setting, training.lanes, place)
    room = None if place.room_gib is None else place.room_gib - sum(lasting.values())
    scattered = 1 + CUDA_SCATTERED if place.device == "cuda" else 1.0

    def step(recomputed: int) -> Transient:
        once = step_bytes(setting, training.worst, loop, recomputed)
        return once * (training.lanes * scattered / GIB)

    wanted = recipe.train.gradient_checkpointing
    recomputed = num_recomputed(
        wanted, setting.depth, lambda n: needed(step(n), room, place.host_gib), room
    )
    worst, moment = step(recomputed), _TRAINING
    offloaded = worst.offloaded / scattered  # pinned memory is scattered by no allocator of a GPU
    if validation is not None:
        scored = evaluation_bytes(setting, validation.worst, loop)
        scored = scored * (validation.lanes * scattered / GIB)
        if scored.total > worst.total:
            worst, moment = scored, _VALIDATION
    peak = sum(lasting.values()) + worst.total
    loading = _loading_gib(setting, lasting, place)
    if loading > peak:
        peak, moment = loading, _LOADING
    return Memory(
        dtype=str(setting.dtype).removeprefix("torch."),
        **lasting,
        activations=worst.activations,
        logits=worst.logits,
        peak=peak,
        worst_moment=moment,
        recomputed_layers=recomputed,
        offloaded=offloaded,
    )


LEAST_HOST_GIB = 0.1
"""Room for what is offloaded, where the CPU's memory is as good as full."""


def needed(step: Transient, room: float | None, host: float | None) -> float:
    """What a step takes of the room on its device, or as large a part as it takes of the host's.

    Args:
        step: the step, in any unit.
        room: on the device, in the same unit; None where nobody knows.
        host: what may be offloaded, likewise.
    """
    if room is None or host is None:
        return step.total
    return max(step.total, room * step.offloaded / host)


_LOADING: Moment = "loading"
_TRAINING: Moment = "training"
_VALIDATION: Moment = "validation"


def _lasting(recipe: Recipe, setting: Setting, lanes: int, place: Place) -> dict[str, float]:
    """GiB that are there from the first step to the last, by part."""
    model = build(setting)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if place.device == "cuda":
        others = CUDA_CONTEXT_GIB + CUDA_WORKSPACE_GIB
    else:
        mapped = mapped_file_bytes(model, setting) / GIB
        others = place.libraries_gib + CPU_SCATTERED_GIB + mapped
    adapters = 4 * trained if setting.train.method == "lora" else 0
    return {
        "weights": (weight_bytes(model) - adapters) / GIB,
        "adapters": adapters / GIB,
        "gradients": 4 * trained * lanes / GIB,
        "optimizer": OPTIMIZER_BYTES[recipe.train.optim] * trained / GIB,
        "others": others,
    }


def _loading_gib(setting: Setting, lasting: dict[str, float], place: Place) -> float:
    """What a CPU holds while a whole base is converted into another type than its file has."""
    own = getattr(setting.config, "dtype", None) or torch.float32
    if place.device != "cpu" or setting.bits or setting.train.method != "lora":
        return 0.0
    converted = own.itemsize / setting.dtype.itemsize if own != setting.dtype else 0.0
    return lasting["others"] + lasting["weights"] * (1 + converted)


def mapped_file_bytes(model: Any, setting: Setting) -> float:
    """Pages of the weights' file that stay resident beside a copy of them.

    A base in the file's own type is used as it is mapped, and counts as weights already. Of one in
    another type all is converted, after which nothing of the file is needed.
    """
    own = getattr(setting.config, "dtype", None) or torch.float32
    if setting.bits is None or own != torch.float32:
        return 0.0
    packed = [m.weight for m in model.modules() if isinstance(m, QuantizedLinear)]
    return float(sum(weight.numel() * own.itemsize for weight in packed))
