"""How much memory and how many cores this machine, or this container, has and has left."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

GIB = 2**30

_LOOK_SECONDS = 0.25
"""So long it is looked at how busy the cores are."""

_TAKEN = 0.75
"""From this share of a core's time on it counts as taken by others."""

_GROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")


def memory_gib() -> float:
    """Memory of this machine, or of this container where it has a limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for group in _groups() if (limit := _number(group / "memory.max")) is not None]
    return min([total, *limits]) / GIB


def available_gib() -> float:
    """Memory that a process may take, without other work of this machine being pushed out.

    The limits of its control group (a container, a unit of systemd) count, and of all above it.
    """
    free = _meminfo("MemAvailable")
    left = memory_gib() if free is None else free / GIB
    for group in _groups():
        limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        if limit is not None and used is not None:
            # Pages of files count as used there, but are given up when memory is short.
            files = _meminfo("file", group / "memory.stat", unit=1) or 0
            left = min(left, (limit - used + files) / GIB)
    return left


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where the system does not say."""
    return _meminfo("VmRSS", _PROCESS / "status") or 0


def usable_cores() -> int:
    """Cores that this process may use: of its affinity, and as its control groups' share of time.

    A share of one and a half cores counts as two: it is not lost that way.
    """
    shares = [share for group in _groups() if (share := _share(group / "cpu.max")) is not None]
    return max(1, min([len(_own_cores()), *map(math.ceil, shares)]))


@cache
def free_cores() -> int:
    """As many of the usable cores as other processes leave idle, at least one.

    Threads that wait for one another are slower than a single one where they share cores with other
    work. Only cores count as taken that are busy now, while this process waits, and were in the
    last minute, too: neither a burst nor what this process has done itself. It is looked at once,
    so that all work of a process goes by the same number.
    """
    import psutil

    own = _own_cores()
    shares = psutil.cpu_percent(_LOOK_SECONDS, percpu=True)
    busy_now = sum(share for core, share in enumerate(shares) if core in own) / 100
    busy: float = min(busy_now, psutil.getloadavg()[0])
    taken = math.floor(busy + 1 - _TAKEN)
    return max(1, min(usable_cores(), len(own) - taken))


def _own_cores() -> set[int]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _share(path: Path) -> float | None:
    """The cores' worth of time in a cpu.max such as `150000 100000`; None for `max 100000`."""
    words = path.read_text(encoding="utf-8").split() if path.is_file() else []
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    return int(words[0]) / int(words[1])


def _groups() -> Iterator[Path]:
    """The control group (version 2) of this process and those that it lies in."""
    path = _PROCESS / "cgroup"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    parts = [] if ".." in own else [part for part in own.split("/") if part]
    for count in range(len(parts), -1, -1):
        yield _GROUPS.joinpath(*parts[:count])


def mapped_gib() -> float:
    """Pages of files that this process holds in memory; 0 where the system does not say."""
    return (_meminfo("RssFile", _PROCESS / "status") or 0) / GIB


def _meminfo(name: str, path: Path = Path("/proc/meminfo"), *, unit: int = 1024) -> int | None:
    """The number in a line such as `MemAvailable:  123 kB`, in bytes."""
    if not path.is_file():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[0] == name:
            return int(words[1]) * unit
    return None


def _number(path: Path) -> int | None:
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None
