"""A step on several processes, by arithmetic: memory of each, and what goes between them.

A message of b bytes takes `latency + b / bandwidth`. Around a ring of N processes

    all-gather, reduce-scatter    (N - 1) messages of b / N
    all-reduce                    one after the other: 2 (N - 1) messages of b / N

With W bytes of weights, A of adapters and as many of their gradients, a step of R rows sends

    ddp      all-reduce of A, in buckets into which the trainer copies it, and three short ones
    zero2    reduce-scatter and all-gather of A: as much, in two messages
    fsdp2    R x 2 all-gathers of W + A (forward, backward), layer by layer; a reduce-scatter of A

and of its memory each process has 1 / N of: with ddp nothing; with zero2 gradients and optimizer;
with fsdp2 (ZeRO-3) also weights and adapters, of which two layers and what is in no layer are whole
while they are at work. Nothing is taken off for what is sent while something is computed.

Sources: Thakur, Rabenseifner and Gropp 2005, "Optimization of Collective Communication Operations
in MPICH" (the cost of a message); Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms
for clusters of workstations"; Rajbhandari et al. 2020, "ZeRO", section 7; Zhao et al. 2023,
"PyTorch FSDP".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from burnish.machine import GIB
from burnish.models.trainable import layers_of
from burnish.planning.memory import Memory
from burnish.planning.outlook import Outlook
from burnish.planning.quantized import weight_bytes
from burnish.planning.report import ClusterLook, ProcessLook
from burnish.planning.step import Setting, build
from burnish.planning.step_time import Pace, passes_of

SHORT_SUMS = 3
"""Sums of a step beside gradients: what its rows hold, the loss, and whether all is finite."""


@dataclass(frozen=True, slots=True)
class Link:
    """What lies between two processes.

    Attributes:
        bandwidth: bytes a second, in one direction.
        latency: seconds of a message however small.
        source: where the figures come from, in words.
        copying: seconds in which a process copies a byte into a bucket and out of it again.
    """

    bandwidth: float
    latency: float
    source: str
    copying: float = 0.0

    @classmethod
    def given(cls, gigabytes: float, microseconds: float) -> Link:
        """A link of which someone says what it is: GB a second, and microseconds of a message."""
        source = f"given: {gigabytes:g} GB/s, {microseconds:g} us a message"
        return cls(1e9 * gigabytes, 1e-6 * microseconds, source)


@dataclass(frozen=True, slots=True)
class Shares:
    """What is sent and shared.

    Attributes:
        memory: of a process that holds everything, and its part of the rows.
        layer_gib: weights of a layer.
        num_layers: the layers.
        trained_gib: weights that learn, in float32, and as much of their gradients.
        num_buckets: how many of them hold all gradients.
        rows_per_step: rows of a process in a step.
    """

    memory: Memory
    layer_gib: float
    num_layers: int
    trained_gib: float
    num_buckets: int
    rows_per_step: float


def ring_seconds(num_bytes: float, num_messages: float, num_processes: int, link: Link) -> float:
    """Seconds of an all-gather or a reduce-scatter of so many bytes, in so many calls.

    An all-reduce takes twice that.
    """
    others = num_processes - 1
    sent = num_bytes * others / num_processes
    return sent / link.bandwidth + num_messages * others * link.latency


def all_reduce_seconds(num_bytes: float, num_buckets: int, num_processes: int, link: Link) -> float:
    """Seconds to sum so many bytes over all processes, in so many buckets."""
    if num_processes < 2:
        return 0.0
    twice = 2 * ring_seconds(num_bytes, num_buckets, num_processes, link)
    return twice + num_bytes * link.copying


def by_way(
    shares: Shares, num_processes: int, link: Link, compute: float | None
) -> dict[str, ProcessLook]:
    """What a process takes with each way of sharing.

    Args:
        shares: what is sent and shared.
        num_processes: how many there are.
        link: what lies between them.
        compute: seconds that a process computes in a step, if known.
    """
    part, others = shares.memory, num_processes - 1
    once = shares.trained_gib * GIB
    passes = 2 * shares.rows_per_step
    units = shares.num_layers + 1
    whole = (part.weights + part.adapters) * GIB
    small = all_reduce_seconds(4 * SHORT_SUMS, SHORT_SUMS, num_processes, link)
    seconds = {
        "ddp": all_reduce_seconds(once, shares.num_buckets, num_processes, link),
        "zero2": all_reduce_seconds(once, 1, num_processes, link),
        "fsdp2": passes * ring_seconds(whole, units, num_processes, link)
        + ring_seconds(once, units, num_processes, link),
    }
    sent = {"ddp": 2 * once, "zero2": 2 * once, "fsdp2": passes * whole + once}
    memory = _memory(shares, num_processes)
    return {
        way: ProcessLook(
            memory_gib=round(memory[way], 3),
            communicated_gib=round(sent[way] * others / num_processes / GIB, 4),
            seconds_of_communication=round(seconds[way] + small, 4),
            seconds_per_step=None if compute is None else round(compute + seconds[way] + small, 3),
        )
        for way in seconds
    }


def _memory(shares: Shares, num_processes: int) -> dict[str, float]:
    """GiB of a process with each way of sharing."""
    part = shares.memory
    spared = 1 - 1 / num_processes
    states = part.gradients + part.optimizer
    held = part.weights + part.adapters
    at_work = held - (shares.num_layers - 2) * shares.layer_gib
    return {
        "ddp": part.peak,
        "zero2": part.peak - spared * states,
        "fsdp2": part.peak - spared * (states + held - min(at_work, held)),
    }


def cluster_look(part: Outlook, num_processes: int, link: Link, pace: Pace | None) -> ClusterLook:
    """Memory and step time of each of several processes.

    Args:
        part: what a process meets that holds everything, and its part of the rows.
        num_processes: how many there are.
        link: what lies between them.
        pace: how fast a process computes, if known.
    """
    rows, compute = part.training, None
    spreads = _can_be_spread(part.setting)
    adapted = build(part.setting)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    if pace is not None:
        flops = passes_of(adapted, num_recomputed=part.memory.recomputed_layers).training(rows)
        compute = pace.seconds(rows, flops) / part.steps_per_epoch
    shares = Shares(
        memory=part.memory,
        layer_gib=_layer_gib(adapted) if spreads else 0.0,
        num_layers=part.setting.depth,
        trained_gib=4 * trained / GIB,
        num_buckets=-(-trained // part.loop.bucket),
        rows_per_step=len(rows.batches) / rows.share / part.steps_per_epoch,
    )
    ways = by_way(shares, num_processes, link, compute)
    if not spreads:
        ways = {"ddp": ways["ddp"]}
    return ClusterLook(processes=num_processes, link=link.source, ways=ways)


def _can_be_spread(setting: Setting) -> bool:
    """Whether weights may lie on several processes: those of plain LoRA on a whole base may."""
    train = setting.train
    plain = train.method == "lora" and not (train.lora.use_dora or train.lora.changes_base)
    return plain and setting.bits is None


def _layer_gib(adapted: Any) -> float:
    """Weights and adapters of a layer, on average."""
    _, layers = layers_of(adapted)
    return sum(map(weight_bytes, layers)) / len(layers) / GIB
