"""Memory of this process: what glibc keeps of it, how its end is told, and what is done then.

Where memory runs out, the same work goes again in smaller pieces, and later work stays that small:
a step of training makes its rows shorter, scoring and generation halve their batch.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from burnish.errors import OutOfMemoryError
from burnish.progress import warn

Item = TypeVar("Item")
Result = TypeVar("Result")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""mallopt's names for them, from glibc's malloc.h."""


def steady_heap() -> bool:
    """Keeps glibc from piling up freed activations; returns whether this system has that setting.

    By default glibc raises its threshold to 32 MiB as soon as large blocks are freed. Activations
    then come from the heap, where an aligned request (torch asks for 64 bytes) can't take a freed
    block of its own size, so the heap grows to almost twice what is in use. From 256 KiB on, a
    tensor gets pages of its own instead, which go back to the system when it is freed.

    Source: mallopt(3), M_MMAP_THRESHOLD; glibc malloc.c, _int_memalign.
    """
    return _tell_malloc({_M_MMAP_THRESHOLD: 2**18})


def warm_heap() -> bool:
    """Lets glibc keep what is freed; returns whether this system has that setting.

    For a loop that asks for like sizes again and again: pages that go back to the system must be
    cleared and mapped anew each time, which took a fifth of the fast path's time. Only arrays of
    32 MiB and more come and go: the most that older glibc takes, and little work beside what is
    computed on so much. All threads share one heap, so that what one has freed can be taken by
    another.

    Source: mallopt(3), M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX.
    """
    return _tell_malloc({_M_MMAP_THRESHOLD: 2**25, _M_TRIM_THRESHOLD: 2**30, _M_ARENA_MAX: 1})


def trim_heap() -> bool:
    """Gives back what has been freed; returns whether this system can.

    After loading and trying out a model: what that took is not what training takes.

    Source: malloc_trim(3).
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return True


def keep_products(number: int) -> None:
    """Lets oneDNN keep what it has made for so many shapes of products, in place of 1,024.

    In bfloat16 it makes a program for every shape, and keeps 0.7 MB of it and its description. Rows
    of unlike lengths have ever new shapes, which took 0.4 GiB within 8 steps. Too few would be made
    anew at each use, so there must be room for all that are used in turn. It has an effect only if
    nothing was multiplied in this process before, and none where a user has set it.

    Source: oneDNN, "Primitive Cache"; ideep, whose cache is another (LRU_CACHE_CAPACITY).
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(number))


def _tell_malloc(settings: dict[int, int]) -> bool:
    try:
        library = ctypes.CDLL("libc.so.6")
        return all([library.mallopt(name, value) for name, value in settings.items()])
    except (OSError, AttributeError):
        return False


# --- out of memory --------------------------------------------------------------------------------

_SAYS_SO = (
    "out of memory",  # CUDA
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "can't allocate memory",  # torch on a CPU
    "not enough memory",
    "bad_alloc",  # C++ within a limit of the process
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's on a CPU, or a GPU's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYS_SO)


def in_smaller_pieces(work: Callable[[], Result], shrink: Callable[[], bool]) -> Result:
    """The result of some work, which is done again in smaller pieces as long as memory runs out.

    Args:
        work: what is done, from its beginning each time.
        shrink: makes the pieces smaller; False if they can't be, and then the error is raised.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not shrink():
                raise
        # Outside the handler, where the error no longer holds on to the tensors of its frames.
        _give_back()


def in_batches(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Sequence[Result]],
    *,
    size: int,
    what: str,
    name: Callable[[Item], str],
    remedy: str,
) -> Iterator[Result]:
    """The result of each item, in order, from work on `size` of them at a time.

    Where memory runs out, the batch is halved and goes again, and later ones stay that small.

    Args:
        items: what is worked on.
        work: the results of a batch, in its order.
        size: of a batch, at first.
        what: the work, such as "score".
        name: an item in words, such as "an example of 512 tokens".
        remedy: what to do where a single item does not fit.

    Raises:
        OutOfMemoryError: a single item does not fit.
    """
    done = 0

    def batch() -> Sequence[Item]:
        return items[done : done + size]

    def halve() -> bool:
        nonlocal size
        failed = batch()
        if len(failed) == 1:
            raise OutOfMemoryError(what, f"memory ran out over {name(failed[0])} alone.", remedy)
        size = len(failed) // 2
        warn(f"{what}: memory ran out over {len(failed)} at a time; from here on it is {size}")
        return True

    while done < len(items):
        results = in_smaller_pieces(lambda: work(batch()), halve)
        done += len(batch())
        yield from results


def _give_back() -> None:
    """Hands what failed work has freed back to the device and to the system."""
    import torch

    torch.cuda.empty_cache()
    trim_heap()
