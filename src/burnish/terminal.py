"""A report of a verb, written for a reader or as one JSON object that nothing else mixes with."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from burnish.errors import naming

Report = Mapping[str, Any]


def report_of(work: Callable[[], Report], *, as_json: bool) -> None:
    """Does the work and prints its report on stdout; all else that is printed goes to stderr."""
    with stdout_for_report(as_json) as out:
        print_report(work(), out, as_json=as_json)


def quiet_libraries() -> None:
    """Leaves out what libraries tell one another about their versions; users can do nothing of it.

    That is, warnings of what will change, and bitsandbytes on a kernel that it looked for.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextlib.contextmanager
def stdout_for_report(as_json: bool) -> Iterator[Any]:
    """A stream to the real stdout; with --json whatever else writes there goes to stderr.

    Done on the level of file descriptors, so that it holds for libraries in C and child processes.
    """
    if not as_json:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        out = os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="backslashreplace")
        try:
            yield out
        finally:
            # What can't be written has been said when the report was flushed.
            with contextlib.suppress(OSError):
                out.close()
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_report(report: Report, out: Any, *, as_json: bool) -> None:
    """Writes a report to a stream: a line of JSON, or a line for each value."""
    with naming("stdout"):
        if as_json:
            out.write(json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n")
        else:
            for name, value in report.items():
                _print_value(name, value, out, indent=0)
        out.flush()


def _print_value(name: str, value: Any, out: Any, *, indent: int) -> None:
    blank = "  " * indent
    if isinstance(value, Mapping) and value:
        out.write(f"{blank}{name}:\n")
        for key, child in value.items():
            _print_value(key, child, out, indent=indent + 1)
    elif isinstance(value, list) and value:
        lines = "".join(f"\n{blank}  {_on_a_line(item)}" for item in value)
        out.write(f"{blank}{name}:{lines}\n")
    else:
        out.write(f"{blank}{name}: {_plain(value)}\n")


def _on_a_line(item: Any) -> str:
    """An item of a list: text as it is, and the values of a mapping side by side."""
    if not isinstance(item, Mapping):
        return str(item)
    return ", ".join(f"{key}: {_plain(value)}" for key, value in item.items())


def _plain(value: Any) -> str:
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
