"""The cleaned chunks on disk, so that an interruption loses nothing and memory holds few texts.

A chunk has three files: its lines, its arrays and, written last, a seal with the hashes of both.
What another burnish has cleaned is cleaned again: its rules may be others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from burnish import __version__
from burnish.cleaning.row import Chunk, CleanedChunk, RowResult, Table, from_line
from burnish.errors import naming
from burnish.run_dir import file_sha256

_ARRAYS = tuple(array.name for array in fields(Table))


class Parts:
    """A folder with the files of each chunk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._starts: list[int] = [0]
        self._numbers: list[int] = []
        self._line = lru_cache(maxsize=20_000)(self._read_line)
        self._offsets = lru_cache(maxsize=None)(self._read_offsets)

    def holds(self, chunk: Chunk) -> bool:
        """Whether this very chunk was cleaned before an interruption, and is whole."""
        lines, arrays, seal = self._paths(chunk.number)
        try:
            if seal.read_bytes() != _seal_of(lines, arrays):
                return False
        except OSError:
            return False
        with lines.open("rb") as file:
            all_lines = file.readlines()
        ends = (chunk.rows[0].origin, chunk.rows[-1].origin)
        return len(all_lines) == len(chunk.rows) and ends == (
            from_line(all_lines[0]).origin,
            from_line(all_lines[-1]).origin,
        )

    def write(self, cleaned: CleanedChunk) -> None:
        """Puts a cleaned chunk on disk; its seal comes last and says that it is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines, arrays, seal = self._paths(cleaned.number)
        offsets = np.cumsum([0, *(len(line) + 1 for line in cleaned.lines)], dtype=np.int64)
        values = {name: getattr(cleaned.table, name) for name in _ARRAYS}
        with naming(str(self.folder)):
            lines.write_bytes(b"".join(line + b"\n" for line in cleaned.lines))
            np.savez(arrays, offsets=offsets, **values)
            seal.write_bytes(_seal_of(lines, arrays))

    def table(self, num_chunks: int) -> Table:
        """The arrays of all chunks in order; results are of these chunks from now on."""
        self._numbers = list(range(num_chunks))
        loaded = []
        self._starts = [0]
        for number in self._numbers:
            with np.load(self._paths(number)[1], allow_pickle=False) as arrays:
                loaded.append({name: arrays[name] for name in _ARRAYS})
            self._starts.append(self._starts[-1] + len(loaded[-1]["alive"]))
        return Table(**{name: np.concatenate([a[name] for a in loaded]) for name in _ARRAYS})

    def results(self) -> Iterator[RowResult]:
        """What came of every row, in order."""
        for number in self._numbers:
            with self._paths(number)[0].open("rb") as file:
                for line in file:
                    yield from_line(line)

    def result(self, row: int) -> RowResult:
        """What came of one row, by its number from 0."""
        return from_line(self._line(row))

    def delete(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read_line(self, row: int) -> bytes:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        number = self._numbers[part]
        offsets = self._offsets(number)
        start, stop = offsets[row - self._starts[part]], offsets[row - self._starts[part] + 1]
        with self._paths(number)[0].open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def _read_offsets(self, number: int) -> NDArray[np.int64]:
        with np.load(self._paths(number)[1], allow_pickle=False) as arrays:
            return np.asarray(arrays["offsets"])

    def _paths(self, number: int) -> tuple[Path, Path, Path]:
        lines, arrays, seal = (
            self.folder / f"{number:06d}.{kind}" for kind in ("jsonl", "npz", "seal")
        )
        return lines, arrays, seal


def _seal_of(*paths: Path) -> bytes:
    return "\n".join([__version__, *map(file_sha256, paths)]).encode()
