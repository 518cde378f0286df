"""Memory of this process: what glibc keeps of it, and how its end is told."""

from __future__ import annotations

import ctypes

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
    cleared and mapped anew each time, which took a fifth of the fast path's time. All threads share
    one heap, so that what one has freed can be taken by another.

    Source: mallopt(3), M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX.
    """
    return _tell_malloc({_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**30, _M_ARENA_MAX: 1})


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


def _tell_malloc(settings: dict[int, int]) -> bool:
    try:
        library = ctypes.CDLL("libc.so.6")
        return all([library.mallopt(name, value) for name, value in settings.items()])
    except (OSError, AttributeError):
        return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's on a CPU, or a GPU's."""
    if isinstance(error, MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "can't allocate memory" in said or "not enough memory" in said
    )
