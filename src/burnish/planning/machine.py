"""How much memory this machine, or this container, has and has left."""

from __future__ import annotations

import os
from pathlib import Path

GIB = 2**30

_GROUP = Path("/sys/fs/cgroup")


def memory_gib() -> float:
    """Memory of this machine, or of this container where it has a limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    limit = _number(_GROUP / "memory.max")
    return total if limit is None else min(total, limit / GIB)


def available_gib() -> float:
    """Memory that a new process may take, without other work of this machine being pushed out."""
    free = _meminfo("MemAvailable")
    left = memory_gib() if free is None else free / GIB
    limit, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    if limit is not None and used is not None:
        # Pages of files count as used there, but are given up when memory is short.
        files = _meminfo("file", _GROUP / "memory.stat", unit=1) or 0
        left = min(left, (limit - used + files) / GIB)
    return left


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where the system does not say."""
    return _meminfo("VmRSS", Path("/proc/self/status")) or 0


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
