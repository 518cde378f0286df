"""What training takes in memory, by part, on this CPU or on a GPU.

On a CPU (checked against measured peaks, docs/LOG.md), as resident memory of the process:

    peak = libraries + weights + mapped file + adapters + gradients + optimizer
           + the larger of (a training step's, a validation batch's activations and logits)

On a GPU (not checked on one yet), as memory that the driver counts:

    peak = context + workspace + weights + adapters + gradients + optimizer
           + (activations + logits) x (1 + 5 % that the caching allocator rounds and scatters)

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

from burnish.planning.batches import Batch, MicroBatches
from burnish.planning.loops import PADDED, Loop
from burnish.planning.machine import GIB
from burnish.planning.quantized import QuantizedLinear, weight_bytes
from burnish.planning.step import Setting, build, evaluation_bytes, step_bytes
from burnish.recipe import Recipe

Device = Literal["cpu", "cuda"]

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
    "paged_adamw_8bit": 2.03,
    "adafactor": 0.5,
}
"""Bytes of state a trained weight; 8-bit states have a scale per 256; adafactor keeps rows and
columns of a matrix, which for LoRA's narrow ones is some of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where training is to take place, and how.

    Attributes:
        device: a CPU, or a CUDA GPU.
        libraries_gib: what a process takes that has loaded the libraries and nothing else.
        loop: the training loop.
    """

    device: Device
    libraries_gib: float
    loop: Loop = PADDED


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB by part at the worst moment, and what decides it (`worst`: training or validation)."""

    weights: float
    adapters: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    others: float
    worst: str
    dtype: torch.dtype

    @property
    def parts(self) -> dict[str, float]:
        """The parts by name."""
        names = "weights adapters gradients optimizer activations logits others"
        return {name: getattr(self, name) for name in names.split()}

    @property
    def peak(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


def setting_of(recipe: Recipe, config: Any, dtype: torch.dtype) -> Setting:
    """What a recipe says of a step's memory."""
    model = recipe.model
    return Setting(
        config=config,
        lora=recipe.train.lora,
        bits=8 if model.load_in_8bit else 4 if model.load_in_4bit else None,
        dtype=dtype,
        checkpointing=bool(recipe.train.gradient_checkpointing),
    )


def memory(
    recipe: Recipe,
    setting: Setting,
    training: MicroBatches,
    validation: MicroBatches | None,
    place: Place,
) -> Memory:
    """What a recipe takes at the worst moment of its training.

    Args:
        recipe: the recipe.
        setting: what a step's memory depends on, from `setting_of`.
        training: the micro batches of an epoch.
        validation: the batches of an evaluation, if there is any.
        place: where it is trained, and by which loop.
    """
    model = build(setting)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = weight_bytes(model) - 4 * trained
    step = step_bytes(setting, worst_batch(setting, training, place.loop), place.loop)
    worst = "training"
    if validation is not None:
        scored = evaluation_bytes(setting, _largest(validation), place.loop)
        if scored.total > step.total:
            step, worst = scored, "validation"
    scattered = 1 + CUDA_SCATTERED if place.device == "cuda" else 1.0
    return Memory(
        weights=weights / GIB,
        adapters=4 * trained / GIB,
        gradients=4 * trained / GIB,
        optimizer=OPTIMIZER_BYTES[recipe.train.optim] * trained / GIB,
        activations=step.activations / GIB * scattered,
        logits=step.logits / GIB * scattered,
        others=_others(model, setting, place),
        worst=worst,
        dtype=setting.dtype,
    )


def worst_batch(setting: Setting, batches: MicroBatches, loop: Loop = PADDED) -> Batch:
    """The micro batch that takes most, by what a computed and a supervised token cost."""
    first = _largest(batches)
    probe = step_bytes(setting, first, loop)
    cost = batches.padded * (probe.activations / (first.size * first.length))
    cost = cost + batches.supervised * (probe.logits / max(first.supervised, 1))
    return batches.batch(int(cost.argmax()))


def _largest(batches: MicroBatches) -> Batch:
    return batches.batch(int(batches.padded.argmax()))


def _others(model: Any, setting: Setting, place: Place) -> float:
    if place.device == "cuda":
        return CUDA_CONTEXT_GIB + CUDA_WORKSPACE_GIB
    return place.libraries_gib + CPU_SCATTERED_GIB + mapped_file_bytes(model, setting) / GIB


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
