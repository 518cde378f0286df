"""What lies between two processes of this machine: gloo's bandwidth and latency, measured."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.models.memory import warm_heap
from burnish.planning.cluster import Link

if TYPE_CHECKING:
    from torch import Tensor

PARTS = 64
"""Tensors that are copied into a bucket."""

NUM_REPEATS = 15
"""How often each is timed; the shortest time counts, as the one least disturbed."""


def measured_link(num_bytes: int) -> Link:
    """The link between two processes for sums of so many bytes, measured for a second or two.

    The bandwidth of a loopback device depends on the size, so it is that of this one.
    """
    with tempfile.TemporaryDirectory(prefix="burnish-link-") as folder:
        store = str(Path(folder) / "store")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            times, _ = pool.starmap(_measure, [(rank, store, num_bytes) for rank in (0, 1)])
    return link_of(num_bytes, *times)


def link_of(num_bytes: int, short: float, long: float, copying: float) -> Link:
    """The link by the seconds of sums between two processes.

    With two of them an all-reduce is two messages of half a tensor each way, so that b bytes take
    `2 latency + b / bandwidth`.

    Args:
        num_bytes: of a long sum.
        short: seconds of the sum of a single number.
        long: seconds of the long one.
        copying: seconds in which as many bytes are copied into a bucket and out of it again.
    """
    latency = short / 2
    bandwidth = num_bytes / max(long - short, 1e-9)
    source = (
        f"measured between two processes here: {bandwidth / 1e9:.2f} GB/s at "
        f"{num_bytes / 2**20:.1f} MiB, {latency * 1e6:.0f} us a message"
    )
    return Link(bandwidth, latency, source, copying / num_bytes)


def _measure(rank: int, store: str, num_bytes: int) -> tuple[float, float, float]:
    """Seconds of a short and a long sum, and of the copies."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    warm_heap()  # as the trainer has it, so that a bucket's pages are there already
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        parts = list(torch.ones(max(num_bytes // 4, PARTS)).tensor_split(PARTS))
        short, long = torch.ones(1), torch.cat(parts)
        copying = _shortest(lambda: _through_a_bucket(parts))
        sums = [_shortest(partial(distributed.all_reduce, x)) for x in (short, long)]
        return sums[0], sums[1], copying
    finally:
        distributed.destroy_process_group()


def _through_a_bucket(parts: list[Tensor]) -> None:
    import torch

    flat = torch.cat(parts)
    for part, copied in zip(parts, flat.tensor_split(PARTS), strict=True):
        part.copy_(copied)


def _shortest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(NUM_REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
