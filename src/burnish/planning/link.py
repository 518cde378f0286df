"""What lies between two processes of this machine: gloo's bandwidth and latency, measured."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

from burnish.planning.cluster import Link

SIZES = (1, 2**13, 2**15, 2**20, 2**22)
"""Numbers in float32 that are summed: from one to 16 MiB; adapters' tensors lie between."""

NUM_REPEATS = 15


def measured_link() -> Link:
    """The link between two processes, from the time that they take to sum some tensors.

    With two of them an all-reduce is two messages of half a tensor each way, so that b bytes take
    `2 latency + b / bandwidth`. The line through the sizes is fitted to relative errors.
    """
    with tempfile.TemporaryDirectory(prefix="burnish-link-") as folder:
        store = str(Path(folder) / "store")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            seconds, _ = pool.starmap(_sums, [(0, store), (1, store)])
    bandwidth, latency = fitted([4.0 * size for size in SIZES], seconds)
    source = f"measured between two processes here: {bandwidth / 1e9:.2f} GB/s"
    return Link(bandwidth, latency, f"{source}, {latency * 1e6:.0f} us a message")


def fitted(num_bytes: list[float], seconds: list[float]) -> tuple[float, float]:
    """Bandwidth and latency of an all-reduce of two: seconds = 2 latency + bytes / bandwidth."""
    sizes, times = np.array(num_bytes), np.array(seconds)
    terms = np.stack([np.full_like(times, 2.0), sizes], axis=1) / times[:, None]
    (latency, per_byte), *_ = np.linalg.lstsq(terms, np.ones_like(times), rcond=None)
    return 1 / max(float(per_byte), 1e-15), max(float(latency), 0.0)


def _sums(rank: int, store: str) -> list[float]:
    """Median seconds to sum a tensor of each size."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        return [_median(torch.ones(size), distributed) for size in SIZES]
    finally:
        distributed.destroy_process_group()


def _median(tensor: object, distributed: object) -> float:
    times = []
    for _ in range(NUM_REPEATS):
        started = time.perf_counter()
        distributed.all_reduce(tensor)  # type: ignore[attr-defined]
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:]))
