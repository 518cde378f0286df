#!/usr/bin/env python3
"""What `burnish plan --processes 2` says of communication, against what two processes take.

    python benchmarks/communication.py [MODEL] [--ranks 8,16,64] [--repeats 20]

Two gloo processes of this machine sum the gradients of a LoRA adapter on all linear layers, by the
trainer's own code, as often as --repeats says; the shortest time counts. The plan's figure comes
from a link that was measured apart from it, in two other processes. A row for every rank of the
adapter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import time

import torch

from burnish.models.memory import warm_heap
from burnish.models.names import find_model
from burnish.planning.cluster import all_reduce_seconds
from burnish.planning.link import measured_link
from burnish.planning.shape import empty_model, read_shape, with_adapter
from burnish.recipe import LoraSettings, ModelSection
from burnish.training import ranks


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--ranks", default="8,16,64", help="of the adapter, apart by commas")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    config = read_shape(find_model(ModelSection(name_or_path=options.model), weights=False))
    print("| adapter | MiB of gradients | GB/s | predicted ms | measured ms | error |")
    print("|---|---|---|---|---|---|")
    for rank in map(int, options.ranks.split(",")):
        model = with_adapter(empty_model(config, torch.float32), LoraSettings(r=rank))
        shapes = [tuple(p.shape) for p in model.parameters() if p.requires_grad]
        size = 4 * sum(a * b for a, b in shapes)
        link = measured_link(min(size, 4 * ranks.BUCKET))
        predicted = all_reduce_seconds(size, -(-size // (4 * ranks.BUCKET)), 2, link)
        measured = seconds_of_two(shapes, options.repeats)
        print(
            f"| r {rank} | {size / 2**20:.1f} | {link.bandwidth / 1e9:.2f} | {1e3 * predicted:.1f} "
            f"| {1e3 * measured:.1f} | {predicted / measured - 1:+.1%} |"
        )


def seconds_of_two(shapes: list[tuple[int, ...]], repeats: int) -> float:
    """Shortest seconds in which two processes sum gradients of these shapes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, _ = pool.starmap(sum_often, [(r, port, shapes, repeats) for r in (0, 1)])
    return one


def sum_often(rank: int, port: int, shapes: list[tuple[int, ...]], repeats: int) -> float:
    """Joins two ranks and sums gradients; shortest seconds of a sum."""
    here = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in here.items()})
    torch.set_num_threads(1)
    warm_heap()  # as the trainer does for the fast path
    ranks.join()
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    times = []
    for _ in range(repeats):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        started = time.perf_counter()
        ranks.sum_gradients(parameters)
        times.append(time.perf_counter() - started)
    ranks.leave()
    return min(times)


if __name__ == "__main__":
    main()
