"""The files that a folder or a pattern names; what burnish's own runs wrote is not among them."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from burnish.errors import DataError
from burnish.reading.archives import is_hidden

_WILDCARDS = frozenset("*?[")
_MANIFEST = "manifest.json"
_STAGE_FOLDER = re.compile(r"\d-[a-z]+")


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder or a pattern names.

    Attributes:
        files: sorted, each with its path below the folder; hidden ones are left out.
        runs: the run folders that were left out, sorted.
        strange: what is neither file nor folder, such as a link that leads nowhere; sorted.
    """

    files: tuple[tuple[Path, str], ...]
    runs: tuple[Path, ...]
    strange: tuple[str, ...] = ()


def is_pattern(path: Path) -> bool:
    """Whether a path has wildcards and is no file or folder that is called so."""
    return any(map(_is_wild, path.parts)) and not path.exists()


def folder_of(pattern: Path) -> Path:
    """The part of a pattern before its first wildcard."""
    return Path(*itertools.takewhile(lambda part: not _is_wild(part), pattern.parts))


def printable(name: str) -> str:
    """A name on one line, with escapes for control characters and for bytes that are no text."""
    return "".join(ascii(c)[1:-1] if category(c) in ("Cc", "Cs") else c for c in name)


def find_files(path: Path) -> Found:
    """The files in a folder, or those that fit a pattern such as `data/**/*.jsonl`.

    Links to folders are followed; of links that lead to one folder, the first alone.

    Raises:
        DataError: a folder can't be read.
    """
    runs: list[Path] = []
    folder = path if path.is_dir() else folder_of(path)
    parts = ("**",) if path.is_dir() else path.parts[len(folder.parts) :]
    found = sorted(set(_matches(folder, parts, runs))) if folder.is_dir() else []
    named = ((path, path.relative_to(folder).as_posix()) for path in found)
    seen = [(path, below) for path, below in named if not is_hidden(below) and not path.is_dir()]
    files = tuple((path, below) for path, below in seen if path.is_file())
    strange = tuple(below for path, below in seen if not path.is_file())
    return Found(files, tuple(sorted(set(runs))), strange)


def is_run_folder(folder: Path) -> bool:
    """Whether burnish ran in a folder, be it that no stage was finished."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return any(folder.glob("[0-9]-*/.key"))
    return isinstance(manifest, dict) and "stages" in manifest


def _is_wild(part: str) -> bool:
    return not _WILDCARDS.isdisjoint(part)


def _matches(folder: Path, parts: tuple[str, ...], runs: list[Path]) -> Iterator[Path]:
    """What fits the rest of a pattern in a folder."""
    head, rest = parts[0], parts[1:]
    if head == "**":
        for below in _tree(folder, runs):
            yield from _matches(below, rest or ("*",), runs)
        return
    fitting = _fitting(folder, head)
    if not rest:
        yield from fitting
        return
    for child in filter(Path.is_dir, fitting):
        if _is_wild(head) and _is_wild(rest[0]) and is_run_folder(child):
            runs.append(child)
        else:
            yield from _matches(child, rest, runs)


def _fitting(folder: Path, name: str) -> list[Path]:
    """What in a folder has a name, or one that fits it; without the manifest of a run."""
    if not _is_wild(name):
        return [folder / name] if os.path.lexists(folder / name) else []
    children = [child for child in _children(folder) if fnmatch.fnmatch(child.name, name)]
    if any(child.name == _MANIFEST for child in children) and is_run_folder(folder):
        return [child for child in children if child.name != _MANIFEST]
    return children


def _tree(root: Path, runs: list[Path]) -> Iterator[Path]:
    """A folder and those below it, each real one once, without those of burnish's runs."""
    seen: set[Path] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        yield folder
        is_run = is_run_folder(folder)
        for child in reversed(_children(folder)):
            if is_hidden(child.name) or not child.is_dir():
                continue
            if is_run and _STAGE_FOLDER.fullmatch(child.name):
                runs.append(folder)
            elif is_run_folder(child):
                runs.append(child)
            else:
                waiting.append(child)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            printable(str(folder)),
            f"this folder can't be read: {error.strerror}.",
            "Check who may read it.",
        ) from None
