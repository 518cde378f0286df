"""What one micro batch keeps in memory: a training step run on fake tensors, which hold no data.

The model's own forward pass, PEFT's adapter layers and autograd run as in training, on tensors that
have a shape but no memory. What is alive at each moment is counted (`live.LiveBytes`), so that no
formula of what a layer saves is needed, and a new architecture counts as its code behaves. In
transformers' forward pass attention is the one that PyTorch takes on a CPU: like the fused ones of
a GPU it saves queries, keys, values, its output and a number a row, never [seq, seq].

Source: PyTorch, torch._subclasses.fake_tensor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from burnish.planning.batches import Batch
from burnish.planning.live import LiveBytes
from burnish.planning.loops import PADDED, Loop
from burnish.planning.quantized import quantize_shape
from burnish.planning.shape import empty_model, shallow, with_adapter
from burnish.recipe import LoraSettings

Run = Callable[[Callable[[], Tensor]], None]

DEPTHS = (2, 4)
"""Layers of the two models that are run; what a layer adds is their difference."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides, beside the batch, what a step keeps.

    Attributes:
        config: the model's configuration.
        lora: the adapter.
        bits: width of the base's linear layers, or None for a whole base.
        dtype: type of the base, or what its quantized layers compute in.
        checkpointing: whether activations are recomputed.
    """

    config: Any
    lora: LoraSettings
    bits: int | None
    dtype: torch.dtype
    checkpointing: bool


@dataclass(frozen=True, slots=True)
class Transient:
    """Bytes alive at the worst moment of a step, beside weights, gradients and optimizer.

    Attributes:
        activations: what the forward pass keeps, and what the backward pass makes.
        logits: of that, what is as wide as the vocabulary.
    """

    activations: float
    logits: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.activations + self.logits


def step_bytes(setting: Setting, batch: Batch, loop: Loop = PADDED) -> Transient:
    """What the training step of one micro batch keeps at its worst moment."""

    def run(loss: Callable[[], Tensor]) -> None:
        loss().backward()  # type: ignore[no-untyped-call]

    return _by_depth(setting, batch, loop, run)


def evaluation_bytes(setting: Setting, batch: Batch, loop: Loop = PADDED) -> Transient:
    """What scoring one batch keeps at its worst moment, without a backward pass."""

    def run(loss: Callable[[], Tensor]) -> None:
        with torch.no_grad():
            loss()

    return _by_depth(setting, batch, loop, run)


def build(setting: Setting) -> Any:
    """The model with its adapter on the meta device, in training mode, as the trainer has it."""
    model = empty_model(setting.config, setting.dtype)
    if setting.bits:
        quantize_shape(model, setting.bits, setting.dtype)
    if setting.checkpointing:
        model.enable_input_require_grads()
        # Without random numbers to keep, which fake tensors have none of.
        options = {"use_reentrant": False, "preserve_rng_state": False}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    return with_adapter(model, setting.lora).train()


def _by_depth(setting: Setting, batch: Batch, loop: Loop, run: Run) -> Transient:
    """Runs two shallow models and goes on along the line to the full depth."""
    depth = int(setting.config.get_text_config().num_hidden_layers)
    if depth <= DEPTHS[1]:
        return _traced(setting, batch, loop, run)
    low, high = (_traced(_with_depth(setting, n), batch, loop, run) for n in DEPTHS)
    share = (depth - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])
    return Transient(
        low.activations + share * (high.activations - low.activations),
        low.logits + share * (high.logits - low.logits),
    )


def _with_depth(setting: Setting, num_layers: int) -> Setting:
    return dataclasses.replace(setting, config=shallow(setting.config, num_layers))


def _traced(setting: Setting, batch: Batch, loop: Loop, run: Run) -> Transient:
    model = build(setting)
    loop.forget()
    try:
        with FakeTensorMode():
            tensors = _materialize(model)
            live = LiveBytes(tensors, width=int(setting.config.get_text_config().vocab_size))
            with live:
                loss = loop.loss(model, batch)
                run(loss)
    finally:
        loop.forget()
    return Transient(live.peak - live.peak_wide, live.peak_wide)


def _materialize(model: Any) -> list[Tensor]:
    """Gives a meta model fake tensors on the CPU, tied ones once; returns them."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, old in tensors.items():
                if old is None:
                    continue
                if id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    if isinstance(old, torch.nn.Parameter):
                        new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
                    made[id(old)] = new
                tensors[name] = made[id(old)]
    return list(made.values())
