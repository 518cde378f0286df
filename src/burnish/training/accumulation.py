"""A step's records -> the gradients of their summed loss: in rows, side by side where that pays.

Records are packed into rows of at most train.row_length tokens, and gradients add up over the rows.
On a CPU the fast path takes several rows side by side, each on cores of its own: two small products
at once use two cores better than one product that is cut in two. The tokens at work at a time, and
with them the memory, stay what row_length says, whatever the number of lanes; and so do the sums,
whose order is fixed.

Where memory runs out, the same records go again in shorter rows: the same step in smaller pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from burnish.models.memory import in_smaller_pieces
from burnish.progress import track, warn
from burnish.training.backends import Backend
from burnish.training.packing import Record, Row, pack, pad_row
from burnish.training.steps import deal

Item = TypeVar("Item")
Result = TypeVar("Result")

LANE_TOKENS = 256
"""A lane with fewer tokens than this is not worth its thread."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How records become rows: at most so many tokens, one record a row without packing."""

    row_length: int
    is_on: bool = True
    share_prefixes: bool = True

    def rows(self, records: Sequence[Record], backend: Backend, *, lanes: int = 1) -> list[Row]:
        """The rows of some records, for a backend that takes so many at a time."""
        length = max(self.row_length // lanes, 1) if self.is_on else 1
        share = self.is_on and self.share_prefixes and backend.shares_prefixes
        rows = pack(records, length, share_prefixes=share)
        if self.is_on and backend.static_rows:
            return [pad_row(row, length) for row in rows]
        return rows


def deal_to_lanes(records: Sequence[Record], most: int) -> list[list[Record]]:
    """The records of each lane, so that all have about as many tokens; `most` lanes at most."""
    lengths = [len(ids) for ids, _ in records]
    count = max(1, min(most, sum(lengths) // LANE_TOKENS, len(records)))
    return [[records[place] for place in share] for share in deal(lengths, count)]


@dataclass(frozen=True, slots=True)
class Ahead:
    """Rows of a step to come, as a thread packs them."""

    packing: Packing
    rows: Future[list[Row]]


class Accumulation:
    """Forward and backward passes over records, whatever their number.

    Args:
        backend: what computes a row.
        packing: how records become rows.
        parameters: what learns.
        device: where rows are computed.
        lanes: how many rows go side by side at most, each on 1 / lanes of the threads.
    """

    def __init__(
        self,
        backend: Backend,
        packing: Packing,
        parameters: Sequence[nn.Parameter],
        device: torch.device,
        *,
        lanes: int = 1,
    ) -> None:
        self.packing = packing
        self.lanes = lanes
        self._backend = backend
        self._parameters = parameters
        self._device = device
        self._threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._packer: ThreadPoolExecutor | None = None

    @property
    def backend_name(self) -> str:
        """What computes the rows."""
        return self._backend.name

    def ahead(self, records: Sequence[Record]) -> Ahead | None:
        """Begins to pack the rows of a step to come, into memory that a GPU reads by itself.

        None on a CPU, where the thread would take a core from the step at work.
        """
        if self._device.type != "cuda":
            return None
        self._packer = self._packer or ThreadPoolExecutor(1, "packer")
        packing = self.packing

        def work() -> list[Row]:
            (lane, *_) = deal_to_lanes(records, self.lanes)
            return [row.pinned() for row in packing.rows(lane, self._backend)]

        return Ahead(packing, self._packer.submit(work))

    def backward(
        self, records: Sequence[Record], *, scale: float, ahead: Ahead | None = None
    ) -> Tensor:
        """Adds the gradients of `scale` times the summed loss to `grad`; returns that product.

        Args:
            records: of the step.
            scale: what the loss is multiplied by.
            ahead: the same records' rows, if they were packed ahead.
        """

        def work() -> Tensor:
            for parameter in self._parameters:
                parameter.grad = None
            lanes = deal_to_lanes(records, self.lanes)
            with self._backend.around():
                if len(lanes) == 1:
                    return self._one_by_one(lanes[0], scale, ahead)
                return self._side_by_side(lanes, scale)

        return in_smaller_pieces(work, partial(self._shorten, records))

    def loss_sum(self, records: Sequence[Record]) -> float:
        """The summed loss of records, without gradients."""

        def work() -> float:
            rows = self._rows(records, self.lanes)
            waves = [rows[i : i + self.lanes] for i in range(0, len(rows), self.lanes)]
            shown = track(waves, "validate", total=len(rows), unit="rows", size=len)
            with self._backend.around():
                return sum(float(x) for wave in shown for x in self._together(self._loss, wave))

        return in_smaller_pieces(work, partial(self._shorten, records))

    # --- one lane, and several ----------------------------------------------------------------

    def _one_by_one(self, records: Sequence[Record], scale: float, ahead: Ahead | None) -> Tensor:
        total = torch.zeros((), device=self._device)
        # Not the rows from before memory ran out: those were too long.
        packed = ahead.rows.result() if ahead and ahead.packing is self.packing else None
        for row in packed or self._rows(records, 1):
            loss = self._backend.loss_sum(row.to(self._device)) * scale
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _side_by_side(self, lanes: Sequence[Sequence[Record]], scale: float) -> Tensor:
        def lane(records: Sequence[Record]) -> tuple[Tensor, list[Tensor]]:
            total, sums = torch.zeros(()), list[Tensor]()
            for row in self._rows(records, len(lanes)):
                loss = self._backend.loss_sum(row) * scale
                gradients = torch.autograd.grad(loss, self._parameters)
                total += loss.detach()
                if sums:
                    torch._foreach_add_(sums, gradients)
                else:
                    sums = list(gradients)
            return total, sums

        (total, sums), *others = self._together(lane, lanes)
        for more, gradients in others:
            total += more
            torch._foreach_add_(sums, gradients)
        for parameter, gradient in zip(self._parameters, sums, strict=True):
            parameter.grad = gradient
        return total

    def _loss(self, row: Row) -> Tensor:
        with torch.no_grad():
            return self._backend.loss_sum(row.to(self._device))

    def _together(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """The results of a function for as many items as there are lanes, worked out at once."""
        if len(items) == 1 or self.lanes == 1:
            return [work(item) for item in items]
        if self._pool is None:
            own = max(1, self._threads // self.lanes)
            self._pool = ThreadPoolExecutor(self.lanes, "lane", torch.set_num_threads, (own,))
        try:
            futures = [self._pool.submit(work, item) for item in items]
            wait(futures)
            return [future.result() for future in futures]
        finally:
            # A thread that sets its own number also sets that of the library's products, for all.
            torch.set_num_threads(self._threads)

    # --- rows ---------------------------------------------------------------------------------

    def _rows(self, records: Sequence[Record], lanes: int) -> list[Row]:
        return self.packing.rows(records, self._backend, lanes=lanes)

    # --- out of memory ------------------------------------------------------------------------

    def _shorten(self, records: Sequence[Record]) -> bool:
        """Halves what is at work at a time; False if a single record is all that is left."""
        longest_record = max(len(ids) for ids, _ in records)
        at_work = max(len(row) for row in self._rows(records, self.lanes)) * self.lanes
        if at_work > longest_record * self.lanes:
            length = max(at_work // 2, longest_record * self.lanes)
        elif self.lanes > 1:
            self._close()
            self.lanes //= 2
            length = longest_record * self.lanes
        else:
            return False
        self.packing = replace(self.packing, row_length=length)
        warn(
            f"memory ran out: from here on rows have {length // self.lanes} tokens, "
            f"{self.lanes} at a time; the same steps in smaller pieces"
        )
        return True

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
