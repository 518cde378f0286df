"""Checkpoints that appear whole, are checked before use, and are pruned only when it is safe.

A checkpoint is written into `.incomplete`, sealed with the hashes of its files, synced and renamed.
Only when it has been read back and is as it was written do older ones go, and each goes by a rename
first. So whatever the moment of a crash, a folder named checkpoint-N is whole.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from burnish.errors import TrainingError
from burnish.progress import warn
from burnish.run_dir import file_sha256, replace_folder, write_json

SEAL = "seal.json"
"""Size and sha256 of every file of a checkpoint; written last."""

INCOMPLETE = ".incomplete"

RECORD = "resume.json"
"""What a resume must know and agree with."""

_NAME = re.compile(r"checkpoint-([0-9]+)")
_PREVIOUS = re.compile(r"\.(checkpoint-[0-9]+)\.previous")
_REMOVED = re.compile(r"\.checkpoint-[0-9]+\.removed")

_NEEDED = {
    "the weights": (
        "adapter_model.safetensors",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model_fsdp*",
        "global_step*",
    ),
    "the optimizer's state": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "the scheduler's state": ("scheduler.pt",),
    "the state of the random numbers": ("rng_state*.pth",),
    "the trainer's state": ("trainer_state.json",),
    "its record": (RECORD,),
}
"""Without one of these a resume would silently begin with a fresh one."""


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
        text = (folder / SEAL).read_text(encoding="utf-8")
        entries = json.loads(text)
        sealed = {name: (entry["bytes"], entry["sha256"]) for name, entry in entries.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return "it has no readable seal"
    if text != json.dumps(entries, ensure_ascii=False, indent=2) + "\n":
        return f"{SEAL} is not as it was written"
    try:
        for name, (size, sha256) in sealed.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size or file_sha256(path) != sha256:
                return f"{name} is not as it was written"
    except OSError as error:
        return f"it can't be read ({error.strerror})"
    return missing(folder)


def missing(folder: Path) -> str | None:
    """What a folder lacks to be a checkpoint that a run can go on from, or None."""
    for what, patterns in _NEEDED.items():
        if not any(any(folder.glob(pattern)) for pattern in patterns):
            return f"it does not hold {what}"
    return None


def publish(folder: Path, root: Path) -> bool:
    """Seals a finished checkpoint, moves it into its place, and reads it back.

    Returns whether it is there as it was written; then, and only then, older ones may go.
    """
    seal(folder)
    final = root / folder.name
    replace_folder(folder, final)
    problem = fault(final)
    if problem is not None:
        warn(f"{final.name}: {problem}, right after it was saved; no older one is removed")
    return problem is None


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
        removed = root / f".{folder.name}.removed"
        shutil.rmtree(removed, ignore_errors=True)
        folder.rename(removed)
        shutil.rmtree(removed)


def tidy(root: Path) -> None:
    """Clears away what a crash left half done; a checkpoint that it was replacing comes back."""
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        previous = _PREVIOUS.fullmatch(path.name)
        if previous and not (root / previous[1]).exists():
            path.rename(root / previous[1])
        elif previous or _REMOVED.fullmatch(path.name) or path.name == INCOMPLETE:
            shutil.rmtree(path)


@contextlib.contextmanager
def writing(place: Path, root: Path) -> Iterator[None]:
    """Tells a full disk in one message, by whichever library it was met.

    Args:
        place: what is written, for the message.
        root: where the checkpoints lie.

    Raises:
        TrainingError: something could not be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        refused = _refusal(error)
        if refused is None:
            raise
        kept = checkpoints(root)
        goes_on = f" it goes on from {kept[-1].name}" if kept else " it starts again"
        raise TrainingError(
            str(place),
            f"it could not be written: {refused}.",
            f"Make room, or see what is wrong with that disk, and run it again:{goes_on}.",
        ) from None


def _refusal(error: BaseException) -> str | None:
    """What the system said against writing; None where the error is of another kind.

    torch says no more than that its writer failed, safetensors quotes Rust's error.
    """
    if isinstance(error, OSError):
        return error.strerror
    said = str(error)
    if "No space left" in said or "StorageFull" in said:
        return "No space left on device"
    if any(mark in said for mark in ("PytorchStreamWriter", "inline_container", "iostream")):
        return "writing failed, as on a full disk"
    return said.splitlines()[0] if "IoError" in said or "I/O error" in said else None
