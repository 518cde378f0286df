"""How long training takes: a line through a few micro batches that are run, or a GEMM's rate.

Seconds of a micro batch are taken as `fixed + FLOPs / rate`. FLOPs per computed token: 2 a frozen
weight in the forward pass and 2 in the backward pass (the gradient of the input alone), 6 a weight
of the adapter, and attention's two products with every token of the row; 4 a weight of the head per
supervised token. Recomputing activations adds a forward pass.

Source: Kaplan et al., "Scaling Laws for Neural Language Models", 2020, section 2.1 (counting).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.planning.batches import Batch, MicroBatches
from burnish.planning.loops import PADDED, Loop
from burnish.planning.shape import num_active

Floats = NDArray[np.floating[Any]]

QUANTILES = (0.1, 0.5, 0.9)
"""Which micro batches are run, by their FLOPs."""

NUM_REPEATS = 3
"""How often each is run; the shortest time counts, as the one least disturbed by other work."""

GEMM_SHARE = 0.45
"""Share of a plain GEMM's rate that training reached on the CPUs where it was measured."""


@dataclass(frozen=True, slots=True)
class Work:
    """Weights by how often they are used: FLOPs follow from these."""

    frozen: float
    adapter: float
    head: float
    attention: float
    checkpointing: bool

    def training(self, batches: MicroBatches) -> Floats:
        """FLOPs of each micro batch, forward and backward."""
        forward = self._forward(batches)
        once = forward if self.checkpointing else 0.0
        backward = batches.padded * (2 * self.frozen + 4 * self.adapter)
        backward = backward + 2.5 * self._attention(batches)
        total: Floats = forward + once + backward + 4.0 * self.head * batches.supervised
        return total

    def evaluation(self, batches: MicroBatches) -> Floats:
        """FLOPs of each batch of an evaluation."""
        return self._forward(batches) + 2.0 * self.head * batches.supervised

    def _forward(self, batches: MicroBatches) -> Floats:
        return batches.padded * 2.0 * (self.frozen + self.adapter) + self._attention(batches)

    def _attention(self, batches: MicroBatches) -> Floats:
        return batches.padded * batches.lengths * self.attention


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a micro batch: `fixed + FLOPs / rate`, by the clock and by the processor.

    Attributes:
        fixed: seconds that each micro batch takes whatever its size.
        rate: FLOPs a second.
        cpu_share: seconds of the processor for a second of the clock; below the number of threads
            where other work held this one up.
        measured: how it was found, in words.
    """

    fixed: float
    rate: float
    cpu_share: float
    measured: str

    def seconds(self, flops: Floats) -> float:
        """Seconds that micro batches of so many FLOPs take together."""
        return float((self.fixed + flops / self.rate).sum())


def work_of(model: Any, *, checkpointing: bool) -> Work:
    """What a token costs in a model with its adapter, on whatever device."""
    base = model.get_base_model()
    config = base.config.get_text_config()
    adapter = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    head = base.get_output_embeddings()
    embeddings = base.get_input_embeddings().weight.numel()
    tied = head.weight is base.get_input_embeddings().weight
    frozen = num_active(base) - adapter - embeddings - (0 if tied else head.weight.numel())
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4.0 * config.num_hidden_layers * config.num_attention_heads * width
    return Work(frozen, adapter, head.weight.numel(), attention, checkpointing)


def calibrate(model: Any, batches: MicroBatches, work: Work, loop: Loop = PADDED) -> Pace:
    """The pace of a real model with its adapter, from a few micro batches of these.

    They hold one token all over; nothing is updated.
    """
    flops = work.training(batches)
    order = np.argsort(flops)
    places = [int(order[round(q * (len(order) - 1))]) for q in QUANTILES]
    chosen = [batches.batch(place) for place in places]
    _run(model, chosen[0], loop)  # the first pass of a process is slower
    times = np.array([_shortest(model, batch, loop) for batch in chosen])
    model.zero_grad()
    fixed, rate = line(flops[places], times[:, 0])
    share = float(times[:, 1].sum() / times[:, 0].sum())
    how = f"{len(set(places))} micro batches of this recipe, run {NUM_REPEATS} times each"
    return Pace(fixed, rate, share, how)


def line(flops: Floats, seconds: Floats) -> tuple[float, float]:
    """Fixed seconds and rate of the line that fits best; neither is ever negative."""
    spread = flops - flops.mean()
    slope = float((spread * seconds).sum() / max((spread**2).sum(), 1e-300))
    fixed = float(seconds.mean() - slope * flops.mean())
    if slope <= 0 or fixed < 0:
        return 0.0, float(flops.sum() / seconds.sum())
    return fixed, 1 / slope


def _shortest(model: Any, batch: Batch, loop: Loop) -> tuple[float, float]:
    """Shortest seconds of the clock, and of the processor, for a micro batch."""
    times = [_run(model, batch, loop) for _ in range(NUM_REPEATS)]
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def _run(model: Any, batch: Batch, loop: Loop) -> tuple[float, float]:
    loss = loop.loss(model, batch)
    started = time.perf_counter(), time.process_time()
    total = loss()
    total.backward()  # type: ignore[no-untyped-call]
    total.item()  # waits for a GPU
    return time.perf_counter() - started[0], time.process_time() - started[1]


def estimate(dtype: torch.dtype, device: torch.device) -> Pace:
    """The pace by this machine's rate of multiplying matrices, for a model that is not at hand."""
    side = 1024
    a = torch.ones(side, side, dtype=dtype, device=device)
    a @ a
    times = []
    for _ in range(8):
        started = time.perf_counter()
        (a @ a)[0, 0].item()
        times.append(time.perf_counter() - started)
    rate = 2.0 * side**3 / min(times)
    how = f"an estimate: {GEMM_SHARE:.0%} of this machine's {rate / 1e9:,.0f} GFLOP/s in matrices"
    return Pace(0.0, rate * GEMM_SHARE, 1.0, how)
