"""Keeps what a forward pass saves for the backward pass in CPU memory, not in a GPU's.

Autograd asks a pair of hooks about every tensor that it saves. What they move is the storage: it
goes once, however many views of it are saved (the q, k and v of one product, a mask that all heads
share), and every view is made again on it as it was. It stays where it is if

    it is that of a parameter or a buffer, which would be copied anew at each use,
    it lies on another device than the model, or
    it has fewer than `SMALLEST` bytes, which would cost more time than they save memory.

A tensor that a function keeps by itself, not by `ctx.save_for_backward`, is not seen: the gradient
of the loss (loss.py), and the inputs that bitsandbytes' 8-bit layers keep. Where layers recompute,
what is saved are their inputs. Weights that autocast casts are made anew for every row, and so move
like all that is made.

Source: PyTorch, torch.autograd.graph.saved_tensors_hooks, and "Notes on CUDA semantics" (streams).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, UntypedStorage

from burnish.training.backends import Backend
from burnish.training.packing import Row

SMALLEST = 2**20
"""Bytes of a storage from which it is moved."""

IN_FLIGHT = 4
"""So many storages may be on their way at a time; then the GPU waits for the first of them, so that
it can't run so far ahead that nothing is freed."""


class Host(Protocol):
    """Where storages go, and how."""

    def store(self, data: Tensor) -> Any:
        """Begins to copy data [n]; returns what `load` wants."""

    def settle(self, kept: Any) -> None:
        """Lets the work to come wait until the copy is made, so that data may be overwritten."""

    def load(self, kept: Any) -> Tensor:
        """The data again [n], where it was."""


class PinnedMemory:
    """CPU memory that a GPU writes and reads by itself, beside its work.

    Copies leave on a stream of their own, and come back on the one that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._leaving = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def store(self, data: Tensor) -> tuple[Tensor, torch.Event]:
        """Begins to copy data [n], behind the work that makes it."""
        copy = torch.empty(data.shape, dtype=data.dtype, pin_memory=True)
        self._leaving.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._leaving):
            copy.copy_(data, non_blocking=True)
        return copy, self._leaving.record_event()

    def settle(self, kept: tuple[Tensor, torch.Event]) -> None:
        """Lets the stream that computes wait until the copy is made."""
        torch.cuda.current_stream(self._device).wait_event(kept[1])

    def load(self, kept: tuple[Tensor, torch.Event]) -> Tensor:
        """The data again [n], on the GPU."""
        self.settle(kept)
        return kept[0].to(self._device, non_blocking=True)


@contextmanager
def saved_on(host: Host, model: Any, *, smallest: int = SMALLEST) -> Iterator[None]:
    """A context in which the forward pass of a model saves on a host what its backward pass wants.

    Args:
        host: where it goes.
        model: the model; its device is the one that storages leave.
        smallest: bytes of a storage from which it is moved.
    """
    traffic = _Traffic(host, model, smallest)
    try:
        with torch.autograd.graph.saved_tensors_hooks(traffic.pack, traffic.unpack):
            yield
    finally:
        traffic.settle_all_but(0)


def offloading(backend: Backend, model: Any) -> Backend:
    """The backend with what its rows save in pinned CPU memory, for a model on a GPU."""
    loss_sum = backend.loss_sum
    host = PinnedMemory(next(model.parameters()).device)

    def elsewhere(row: Row) -> Tensor:
        with saved_on(host, model):
            return loss_sum(row)

    return replace(backend, loss_sum=elsewhere)


# --- one forward pass ---------------------------------------------------------------------------


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Moved:
    """A storage that has left.

    Attributes:
        kept: what the host has of it.
        version: how often it had been written to when it left.
        num_views: saved views of it that were not asked for yet.
        back: its data where it was, from the first view that is asked for to the last.
    """

    kept: Any
    version: int
    num_views: int = 0
    back: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _View:
    """What a saved tensor is of a storage that has left."""

    moved: _Moved
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


class _Traffic:
    """The hooks of one forward pass, and of the backward pass that follows it."""

    def __init__(self, host: Host, model: Any, smallest: int) -> None:
        held = [*model.parameters(), *model.buffers()]
        self._host = host
        self._smallest = smallest
        self._device = held[0].device
        self._held = {tensor.untyped_storage()._cdata for tensor in held}
        self._moved = weakref.WeakKeyDictionary[UntypedStorage, weakref.ref[_Moved]]()
        self._leaving = deque[tuple[Tensor, Any]]()

    def pack(self, tensor: Tensor) -> Tensor | _View:
        """What is saved in a tensor's place: itself, or what makes it again."""
        if self._stays(tensor):
            return tensor
        moved = self._move(tensor.detach())
        moved.num_views += 1
        return _View(
            moved, tensor.dtype, tensor.size(), tensor.stride(), int(tensor.storage_offset())
        )

    def unpack(self, saved: Tensor | _View) -> Tensor:
        """The tensor that was saved."""
        if isinstance(saved, Tensor):
            return saved
        moved = saved.moved
        data = self._host.load(moved.kept) if moved.back is None else moved.back
        moved.num_views -= 1
        moved.back = data if moved.num_views > 0 else None
        return data.view(saved.dtype).as_strided(saved.size, saved.stride, saved.offset)

    def settle_all_but(self, number: int) -> None:
        """Lets go of storages that are on their way, the first first, until so many are left."""
        while len(self._leaving) > number:
            data, kept = self._leaving.popleft()
            self._host.settle(kept)
            del data  # not before: its memory would be given to others while it is copied

    def _stays(self, tensor: Tensor) -> bool:
        if tensor.device != self._device or tensor.layout != torch.strided:
            return True
        storage = tensor.untyped_storage()
        return storage.nbytes() < self._smallest or storage._cdata in self._held

    def _move(self, tensor: Tensor) -> _Moved:
        storage = tensor.untyped_storage()
        found = self._moved.get(storage)
        moved = found() if found else None
        if moved is None or moved.version != tensor._version:
            data = tensor.as_strided((storage.nbytes() // tensor.itemsize,), (1,), 0)
            moved = _Moved(self._host.store(data), tensor._version)
            self._moved[storage] = weakref.ref(moved)
            self._leaving.append((data, moved.kept))
            self.settle_all_but(IN_FLIGHT)
        return moved
