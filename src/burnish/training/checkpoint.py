"""Checkpoints that appear whole, are checked before use, and are pruned only when it is safe."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from burnish.progress import warn
from burnish.run_dir import file_sha256, replace_folder, write_json

SEAL = "seal.json"
"""Size and sha256 of every file of a checkpoint; written last."""

INCOMPLETE = ".incomplete"

_NAME = re.compile(r"checkpoint-([0-9]+)")


def seal(folder: Path) -> None:
    """Notes size and sha256 of every file in a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL)
    entries = {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": file_sha256(p)}
        for p in files
    }
    write_json(folder / SEAL, entries)


def fault(folder: Path) -> str | None:
    """What is wrong with a sealed folder, or None."""
    try:
        entries = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        sealed = {name: (entry["bytes"], entry["sha256"]) for name, entry in entries.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return "it has no readable seal"
    for name, (size, sha256) in sealed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size or file_sha256(path) != sha256:
            return f"{name} is not as it was written"
    return None


def publish(folder: Path, root: Path) -> Path:
    """Seals a finished checkpoint and moves it into its place under `root`."""
    seal(folder)
    final = root / folder.name
    replace_folder(folder, final)
    return final


def last_good(root: Path) -> Path | None:
    """The newest checkpoint that is as it was written; a warning for each that is not."""
    for folder in reversed(checkpoints(root)):
        problem = fault(folder)
        if problem is None:
            return folder
        warn(f"{folder.name} can't be used: {problem}; going back to the one before")
    return None


def checkpoints(root: Path) -> list[Path]:
    """The checkpoint folders by rising step."""
    if not root.is_dir():
        return []
    found = [(int(m[1]), p) for p in root.iterdir() if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint folder."""
    return int(folder.name.rpartition("-")[2])


def prune(root: Path, *, keep: int | None, best_step: int | None) -> None:
    """Removes the oldest checkpoints beyond `keep`; the best and the newest always stay."""
    if keep is None:
        return
    folders = checkpoints(root)
    spare = [f for f in folders[:-1] if step_of(f) != best_step]
    for folder in spare[: max(0, len(folders) - keep)]:
        shutil.rmtree(folder)
