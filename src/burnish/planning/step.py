"""What one micro batch keeps in memory: a training step run on fake tensors, which hold no data.

The loop's own loss, PEFT's adapter layers and autograd run as in training, on tensors that have a
shape but no memory. What is alive at each moment is counted (`live.LiveBytes`), so that no formula
of what a layer saves is needed, and a new architecture counts as its code behaves. In transformers'
forward pass attention is the one that PyTorch takes on a CPU: like the fused ones of a GPU it saves
queries, keys, values, its output and a number a row, never [seq, seq].

Two shallow models are run, and what a layer adds is their difference. Of L layers let each keep k
bytes, or i (its input) where it recomputes; K and I are the peaks where none and all recompute.
Where the first n do, the peak is the larger one of two moments:

    K - n (k - i)       the backward pass begins, and all that is kept is there
    I - (L - n) i       the last of the n goes forward again, and those behind it are gone

Source: PyTorch, torch._subclasses.fake_tensor; Chen et al. 2016, "Training Deep Nets with Sublinear
Memory Cost".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from burnish.models.lora import base_of
from burnish.models.trainable import held_in, make_trainable
from burnish.planning.batches import Batch
from burnish.planning.experts import shapes_of_grouped_products
from burnish.planning.live import HostBytes, LiveBytes
from burnish.planning.loops import Loop
from burnish.planning.quantized import quantize_shape
from burnish.planning.shape import empty_model, shallow
from burnish.recipe import TrainSection

FEWEST, APART = 2, 2
"""Layers of the first of the two models that are run, at least, and how many more the second has;
what a layer adds is their difference."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides, beside the batch and the loop, what a step keeps.

    Attributes:
        config: the model's configuration.
        train: what learns, by its method; nothing else of it counts.
        bits: width of the base's linear layers, or None for a whole base.
        dtype: type of the base, or what its quantized layers compute in.
    """

    config: Any = field(compare=False)
    train: TrainSection = field(compare=False)
    bits: int | None
    dtype: torch.dtype
    _identity: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Configurations can't be hashed; their text can."""
        learns = self.train.model_dump_json(include={"method", "lora", "freeze_trainable_layers"})
        identity = self.config.to_json_string() + learns
        object.__setattr__(self, "_identity", identity)

    @property
    def depth(self) -> int:
        """The model's layers."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers of the models that are run: two shallow ones, or all of them.

        With method freeze the last layers differ from those before, which are told apart if both
        models have all of the learning ones; likewise the dense layers that some mixtures of
        experts begin with. Parts that are named by layer need every layer.
        """
        learning: Any = self.train.freeze_trainable_layers
        if self.train.method != "freeze":
            learning = 0
        if not isinstance(learning, int) or self._names_layers:
            return (self.depth,)
        dense = getattr(self.config.get_text_config(), "first_k_dense_replace", None) or 0
        first = max(FEWEST, learning, dense + 1)
        return (first, first + APART) if self.depth > first + APART else (self.depth,)

    @property
    def _names_layers(self) -> bool:
        """Whether adapters go to single layers: by their numbers, or by a pattern that may."""
        targets = self.train.lora.target_modules
        if self.train.method != "lora" or targets == "all-linear":
            return False
        if isinstance(targets, str):
            return True
        return any(part.isdigit() for name in targets for part in name.split("."))

    def at_depth(self, num_layers: int) -> Setting:
        """The same with the first so many layers."""
        return dataclasses.replace(self, config=shallow(self.config, num_layers))


@dataclass(frozen=True, slots=True)
class Transient:
    """Bytes alive at the worst moment of a step, beside weights, gradients and optimizer.

    Attributes:
        activations: what the forward pass keeps, and what the backward pass makes.
        logits: of that, what is as wide as the vocabulary.
        offloaded: what is in CPU memory instead when the forward pass ends.
    """

    activations: float
    logits: float
    offloaded: float = 0.0

    @property
    def total(self) -> float:
        """What is on the device."""
        return self.activations + self.logits

    def __add__(self, other: Transient) -> Transient:
        return Transient(
            self.activations + other.activations,
            self.logits + other.logits,
            self.offloaded + other.offloaded,
        )

    def __sub__(self, other: Transient) -> Transient:
        return self + other * -1

    def __mul__(self, factor: float) -> Transient:
        return Transient(self.activations * factor, self.logits * factor, self.offloaded * factor)


def step_bytes(setting: Setting, batch: Batch, loop: Loop, num_recomputed: int = 0) -> Transient:
    """What the training step of one micro batch keeps at its worst moment.

    Args:
        setting: the model and its adapter.
        batch: the micro batch.
        loop: the training loop.
        num_recomputed: so many layers, from the first, keep only their input.
    """
    depth = setting.depth
    if len(setting.depths) == 1:
        return _traced(setting, batch, loop, num_recomputed, _training)
    whole, layer = _by_depth(setting, batch, loop, False, _training)
    if not num_recomputed:
        return whole
    spared, its_input = _by_depth(setting, batch, loop, True, _training)
    if num_recomputed >= depth:
        return spared
    going_back = whole + (its_input - layer) * num_recomputed
    going_forth_again = spared + its_input * (num_recomputed - depth)
    worst = max(going_back, going_forth_again, key=lambda moment: moment.total)
    return dataclasses.replace(worst, offloaded=going_back.offloaded)


def evaluation_bytes(setting: Setting, batch: Batch, loop: Loop) -> Transient:
    """What scoring one batch keeps at its worst moment, without a backward pass."""
    if len(setting.depths) == 1:
        return _traced(setting, batch, loop, 0, _scoring)
    return _by_depth(setting, batch, loop, False, _scoring)[0]


def bound_bytes(model: Any, num_tokens: int) -> float:
    """More than the step of a row of so many tokens can keep, without running one.

    For every token, the input and output of every linear layer twice, in float32; scores with all
    others of every head three times; and the logits four times.
    """
    config = base_of(model).config.get_text_config()
    linear = sum(m.in_features + m.out_features for m in model.modules() if _is_linear(m))
    scores = config.num_hidden_layers * config.num_attention_heads * num_tokens
    return float(4 * num_tokens * (2 * linear + 3 * scores + 4 * config.vocab_size))


def _is_linear(module: Any) -> bool:
    is_shell = hasattr(module, "base_layer")  # an adapter's, around a layer that counts itself
    return hasattr(module, "in_features") and hasattr(module, "out_features") and not is_shell


def build(setting: Setting) -> Any:
    """The model with what learns on the meta device, in training mode, as the trainer has it."""
    own = getattr(setting.config, "dtype", None) or torch.float32
    model = empty_model(setting.config, held_in(setting.train, setting.dtype, own))
    if setting.bits:
        quantize_shape(model, setting.bits, setting.dtype)
    with torch.device("meta"):
        return make_trainable(model, setting.train, initialize=False).train()


Run = Callable[[Callable[[], Tensor]], None]


def _training(loss: Callable[[], Tensor]) -> None:
    loss().backward()  # type: ignore[no-untyped-call]


def _scoring(loss: Callable[[], Tensor]) -> None:
    with torch.no_grad():
        loss()


def _by_depth(
    setting: Setting, batch: Batch, loop: Loop, recomputing: bool, run: Run
) -> tuple[Transient, Transient]:
    """What the whole model takes, and how much of that a layer adds."""
    low, high = (
        _traced(setting.at_depth(n), batch, loop, n if recomputing else 0, run)
        for n in setting.depths
    )
    layer = (high - low) * (1 / APART)
    return low + layer * (setting.depth - setting.depths[0]), layer


@lru_cache(maxsize=256)
def _traced(setting: Setting, batch: Batch, loop: Loop, num_recomputed: int, run: Run) -> Transient:
    model = build(setting)
    host = HostBytes()
    loop.forget()
    try:
        with FakeTensorMode(), shapes_of_grouped_products():
            tensors = _materialize(model)
            live = LiveBytes(tensors, width=int(setting.config.get_text_config().vocab_size))
            with live:
                loss = loop.loss(model, batch, num_recomputed)
                run(_elsewhere(loss, loop, host, model))
    finally:
        loop.forget()
    return Transient(live.peak - live.peak_wide, live.peak_wide, host.peak)


def _elsewhere(
    loss: Callable[[], Tensor], loop: Loop, host: HostBytes, model: Any
) -> Callable[[], Tensor]:
    """The loss with what it saves on a host, where the loop does so."""
    if loop.elsewhere is None:
        return loss
    context = loop.elsewhere(host, model)

    def saving() -> Tensor:
        with context:
            return loss()

    return saving


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
