"""How many bytes of tensors are alive while code runs, and the most there were at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make, backward pass included, until they are freed.

    A storage counts once, however many views share it. Works on fake tensors as on real ones.
    What a kernel takes and gives back within one operation is not seen.

    Attributes:
        live: bytes alive now.
        peak: the most bytes alive at once.
        peak_wide: how many of those belonged to tensors whose last dimension is `width`.
    """

    def __init__(self, known: Iterable[Tensor] = (), *, width: int = 0) -> None:
        """Counts from zero; the storages of `known` tensors, such as weights, never count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.peak_wide = 0
        self._wide = 0
        self._width = width
        self._known = [tensor.untyped_storage() for tensor in known]
        self._seen = {storage._cdata for storage in self._known}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Runs an operation and counts what came of it."""
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        if self.live > self.peak:
            self.peak, self.peak_wide = self.live, self._wide
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        wide = size if tensor.dim() and tensor.shape[-1] == self._width else 0
        self._seen.add(key)
        self.live += size
        self._wide += wide
        weakref.finalize(storage, self._free, key, size, wide)

    def _free(self, key: int, size: int, wide: int) -> None:
        self._seen.discard(key)
        self.live -= size
        self._wide -= wide


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class _Block:
    """What a host remembers of data that it did not keep."""

    numel: int
    dtype: torch.dtype
    device: torch.device


class HostBytes:
    """Stands for the pinned memory that activations go to, and counts what it would hold.

    A block of pinned memory is as large as the next power of two (ATen, CachingHostAllocator.h).

    Attributes:
        live: bytes held now.
        peak: the most bytes held at once.
    """

    def __init__(self) -> None:
        self.live = self.peak = 0

    def store(self, data: Tensor) -> _Block:
        """Counts data [n]; it counts until what is returned is gone."""
        size = 1 << (data.nbytes - 1).bit_length()
        self.live += size
        self.peak = max(self.peak, self.live)
        block = _Block(data.numel(), data.dtype, data.device)
        weakref.finalize(block, self._free, size)
        return block

    def settle(self, kept: _Block) -> None:
        """Nothing is on its way."""

    def load(self, kept: _Block) -> Tensor:
        """As much as was stored [n], with anything in it."""
        return torch.empty(kept.numel, dtype=kept.dtype, device=kept.device)

    def _free(self, size: int) -> None:
        self.live -= size
