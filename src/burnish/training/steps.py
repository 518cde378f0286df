"""Which records make up each optimizer step, in seeded order, and which of them a rank takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class StepBatches(Sampler[list[int]]):
    """The records of each step of an epoch: all records once, in an order by seed and epoch.

    By tokens, an epoch always has the same number of steps, and each about the same number of
    tokens: the shuffled records are cut where their tokens pass equal shares of the whole.
    """

    def __init__(
        self, lengths: Sequence[int], *, records: int, tokens: int | None, seed: int
    ) -> None:
        self._lengths = torch.tensor(lengths)
        self._records = records
        self._tokens = tokens
        self._seed = seed
        self._epoch = 0

    @property
    def lengths(self) -> list[int]:
        """The tokens of every record."""
        lengths: list[int] = self._lengths.tolist()
        return lengths

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        if self._tokens is None:
            return -(-len(self._lengths) // self._records)
        wanted = -(-int(self._lengths.sum()) // self._tokens)
        return max(1, min(wanted, len(self._lengths)))

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(len(self._lengths), generator=generator)
        for start, stop in itertools.pairwise([0, *self._ends(order)]):
            yield order[start:stop].tolist()

    def _ends(self, order: torch.Tensor) -> list[int]:
        """Behind which records each step ends; every step has at least one."""
        count, num_steps = len(order), len(self)
        if self._tokens is None:
            return [min(count, (step + 1) * self._records) for step in range(num_steps)]
        passed = self._lengths[order].cumsum(0)
        shares = passed[-1] * torch.arange(1, num_steps + 1) / num_steps
        ends = torch.searchsorted(passed, shares - 0.5) + 1
        result, last = [], 0
        for step, end in enumerate(ends.tolist()):
            last = min(max(end, last + 1), count - (num_steps - 1 - step))
            result.append(last)
        return result


class RankShare(Sampler[list[int]]):
    """The records of each step that one rank takes; all ranks together take the whole step.

    So the effective batch is what the recipe says, whatever the number of ranks. A rank may have
    none of a step: it then adds nothing to the sums, but takes part in them.
    """

    def __init__(self, steps: StepBatches, *, rank: int, num_ranks: int) -> None:
        self.batch_sampler = steps  # by this name transformers finds it, to say the epoch
        self._lengths = steps.lengths
        self._rank = rank
        self._num_ranks = num_ranks

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next."""
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.batch_sampler:
            shares = deal([self._lengths[index] for index in step], self._num_ranks)
            yield [step[place] for place in shares[self._rank]]


def deal(lengths: Sequence[int], num_shares: int) -> list[list[int]]:
    """The places of records in each share, rising, so that all have about as many tokens.

    From the longest record to the shortest (the earlier of equals first), each goes to the share
    with the fewest tokens so far (the lower of equals).
    """
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    loads = [0] * num_shares
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        lightest = loads.index(min(loads))
        shares[lightest].append(place)
        loads[lightest] += lengths[place]
    return [sorted(share) for share in shares]
