"""What a person sees while work goes on: lines in a log, a bar on a terminal. All on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Writes one plain line to stderr."""
    stderr.print(text, markup=False)


def warn(text: str) -> None:
    """Writes one line to stderr that begins with warning."""
    stderr.print(f"[yellow]warning:[/yellow] {escape(text)}")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps all that is said in the block off stderr."""
    before, stderr.quiet = stderr.quiet, True
    try:
        yield
    finally:
        stderr.quiet = before


def track(
    items: Iterable[Item],
    what: str,
    *,
    total: int | None,
    unit: str,
    size: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yields the items, with a bar on a terminal and a line every ten seconds in a log.

    Args:
        items: what is worked on.
        what: the work, such as "clean".
        total: how many there are; None where that is not known.
        unit: what is counted, such as "rows".
        size: how many of them an item is.
    """
    if stderr.is_terminal:
        yield from _with_bar(items, what, total, unit, size)
    else:
        yield from _with_lines(items, what, total, unit, size)


def _with_bar(
    items: Iterable[Item], what: str, total: int | None, unit: str, size: Callable[[Item], int]
) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(what, total=total, speed="")
        count = 0
        for item in items:
            yield item
            count += size(item)
            rate = count / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=count, speed=f"{rate:,.0f} {unit}/s")


def _with_lines(
    items: Iterable[Item], what: str, total: int | None, unit: str, size: Callable[[Item], int]
) -> Iterator[Item]:
    started = last = time.monotonic()
    count = 0
    for item in items:
        yield item
        count += size(item)
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            say(_progress_line(what, count, total, unit, now - started))


def _progress_line(what: str, count: int, total: int | None, unit: str, seconds: float) -> str:
    rate = count / max(seconds, 1e-9)
    if total is None:
        return f"{what}: {count:,} {unit}, {rate:,.1f} {unit}/s"
    left = max(total - count, 0) / max(rate, 1e-9)
    return f"{what}: {count:,} of {total:,} {unit}, {rate:,.1f} {unit}/s, {left:,.0f} s left"
