"""How much memory this machine, or this container, has and has left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

GIB = 2**30

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
