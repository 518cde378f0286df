"""The processes of one training run, called ranks: what they agree on and what they add up.

A run in one process is the case of one rank; every function then gives back what it was given.
Numbers, decisions and errors go between CPUs (gloo), gradients where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from burnish.errors import BurnishError

Result = TypeVar("Result")

BUCKET = 2**25
"""Numbers that go over the network at a time: few messages, and a copy of 128 MiB at most."""

PATIENCE = timedelta(minutes=60)
"""How long a rank waits for the others; the first one may be reading or writing for all."""


def backend() -> str:
    """What carries the messages of this machine, by torch's name."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def join() -> None:
    """Joins the ranks that the launcher's environment names, if it names any."""
    if "RANK" not in os.environ or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(backend(), timeout=PATIENCE)


def leave() -> None:
    """Ends the connection to the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def num_ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that speaks and writes for all."""
    return rank() == 0


def from_first(work: Callable[[], Result]) -> Result:
    """The result of some work on the first rank, for all of them.

    Raises:
        BurnishError, OSError: what the work raised there, on every rank.
    """
    if num_ranks() == 1:
        return work()
    outcome: list[tuple[Result | None, BurnishError | OSError | None]] = [(None, None)]
    if is_first():
        try:
            outcome = [(work(), None)]
        except (BurnishError, OSError) as refused:
            outcome = [(None, refused)]
    dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    ((result, error),) = outcome
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def gathered(values: Sequence[Result]) -> list[Result]:
    """The values of all ranks, those of the first rank first."""
    if num_ranks() == 1:
        return list(values)
    found: list[list[Result]] = [[] for _ in range(num_ranks())]
    dist.all_gather_object(found, list(values))
    return [value for of_rank in found for value in of_rank]


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, the same bits on each; written into `x`."""
    if num_ranks() > 1:
        dist.all_reduce(x)
    return x


def largest_over_ranks(number: int) -> int:
    """The largest of the ranks' numbers."""
    if num_ranks() == 1:
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Adds up the gradients of all ranks; a rank that has none adds zeros.

    No wrapper does it: rows are computed by calls that no wrapper sees, and a rank may have any
    number of them, also none.
    """
    if num_ranks() == 1:
        return
    learning = [p for p in parameters if p.requires_grad]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    _in_buckets([p.grad for p in learning if p.grad is not None], dist.all_reduce)


def weights_of_first(parameters: Iterable[nn.Parameter]) -> None:
    """Gives every rank the first one's values of what learns."""
    if num_ranks() > 1:
        learning = [p.data for p in parameters if p.requires_grad]
        _in_buckets(learning, lambda flat: dist.broadcast(flat, src=0))


def draw_apart(seed: int) -> None:
    """Gives each rank random numbers of its own from here on, so that dropout differs."""
    if num_ranks() > 1:
        torch.manual_seed(seed + rank())


def _in_buckets(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
    """Lets many tensors go over the network as few flat ones, in place."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        exchange(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, as many together as have one type and fit a bucket."""
    bucket: list[Tensor] = []
    room = 0
    for tensor in tensors:
        if bucket and (tensor.numel() > room or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        if not bucket:
            room = BUCKET
        bucket.append(tensor)
        room -= tensor.numel()
    if bucket:
        yield bucket


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone."""
    if isinstance(error, dist.DistError):
        return True
    said = str(error)
    return "gloo" in said.lower() or "connection" in said.lower() or "NCCL" in said
