"""The files that a training run adds to while it goes, an object a line: they can be followed.

A line is written at once, so that whoever reads beside the run sees whole lines but for the last.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.jsonl"
"""Loss, learning rate, speed and memory by step."""

HEALTH_NAME = "health.jsonl"
"""Steps that were no good: passed over, or with a loss far above the others."""

SAMPLES_NAME = "samples.jsonl"
"""Answers of the adapter at each evaluation."""


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Adds an object to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file, none if it is missing; a line that is unfinished is passed over."""
    if not path.is_file():
        return []
    return _parsed(path.read_text(encoding="utf-8", errors="replace"))


class Follower:
    """Reads what was added to a file since the last look, whole lines only.

    A file that is not there yet has no lines; one that was rewound is read anew.
    """

    def __init__(self, path: Path) -> None:
        self.lines: list[dict[str, Any]] = []
        self._path = path
        self._inode = 0
        self._offset = 0

    def look(self) -> list[dict[str, Any]]:
        """All lines so far."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._offset:
                    self.lines, self._inode, self._offset = [], stat.st_ino, 0
                file.seek(self._offset)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            self.lines, self._inode, self._offset = [], 0, 0
            return self.lines
        if whole:
            self._offset += len(whole) + 1
            self.lines = [*self.lines, *_parsed(whole.decode("utf-8", errors="replace"))]
        return self.lines

    def age(self) -> float | None:
        """Seconds since the file was written to; None if it is not there."""
        try:
            return max(time.time() - self._path.stat().st_mtime, 0.0)
        except FileNotFoundError:
            return None


def _parsed(text: str) -> list[dict[str, Any]]:
    lines = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines
