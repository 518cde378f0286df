"""The run folder: the name of every file in it, the manifest, and files that appear whole.

    runs/medical/
      recipe.yaml manifest.json
      1-clean/ 2-prepare/ 3-train/ 4-evaluate/ 5-merge/ 6-quantize/

The manifest keeps, per stage, the key of what it was made from (settings and parents), the hashes
of what it wrote and its report. A stage whose key is unchanged and whose files are as they were is
not run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from burnish import __version__
from burnish.errors import RunError, naming
from burnish.recipe_file import RECIPE_NAME

FOLDERS = {
    "clean": "1-clean",
    "prepare": "2-prepare",
    "train": "3-train",
    "evaluate": "4-evaluate",
    "merge": "5-merge",
    "quantize": "6-quantize",
}
"""The folder of each stage, in the order of the stages."""

MANIFEST_NAME = "manifest.json"
CHECKPOINTS = "checkpoints"
"""The folder inside 3-train that is no output: checkpoints come and go."""

PARTS = "parts"
"""The folder inside 1-clean with what is cleaned so far; it goes when all is."""

PROMPTS_NAME = "prompts.json"

KEY_FILE = ".key"
"""Says what an unfinished stage works on; no output either."""

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True, slots=True)
class RunDir:
    """Names every file of a run."""

    path: Path

    def folder(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.path / FOLDERS[stage]

    @property
    def conversations(self) -> Path:
        """What cleaning kept: a conversation a line."""
        return self.folder("clean") / "conversations.jsonl"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer with the chat template that this run uses."""
        return self.folder("prepare") / "tokenizer"

    @property
    def prompts(self) -> Path:
        """The parity certificate: probe conversations as token ids and labels."""
        return self.folder("prepare") / PROMPTS_NAME

    def split(self, name: str) -> Path:
        """A prepared split, as written by `Dataset.save_to_disk`."""
        return self.folder("prepare") / name

    @property
    def checkpoints(self) -> Path:
        """The training run's checkpoints."""
        return self.folder("train") / CHECKPOINTS

    @property
    def trackers(self) -> Path:
        """What experiment trackers write; no output, because they change it themselves later."""
        return self.path / "trackers"

    @property
    def adapter(self) -> Path:
        """The trained adapter, in PEFT's layout."""
        return self.folder("train") / "adapter"

    @property
    def trained_model(self) -> Path:
        """The whole trained model of train.method full or freeze, in Hugging Face's layout."""
        return self.folder("train") / "model"

    @property
    def trained(self) -> Path:
        """What training made: the adapter, or the whole model."""
        return self.trained_model if self.trained_model.is_dir() else self.adapter

    @property
    def merged(self) -> Path:
        """The merged model, in Hugging Face's layout."""
        return self.folder("merge") / "model"

    @property
    def quantized(self) -> Path:
        """The quantized model, in the AutoGPTQ layout."""
        return self.folder("quantize") / "model"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run folder, so that two commands do not write to it at once.

        Raises:
            RunError: another burnish is at work here, or the folder can't be made.
        """
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                str(self.path),
                "another burnish is at work in this run folder.",
                "Wait for it, or choose another folder with --set run_dir=PATH.",
            ) from None
        except OSError as error:
            raise RunError(
                str(self.path),
                f"this can't be the run folder ({error.strerror}).",
                "Choose another folder with --set run_dir=PATH.",
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def fresh(self, stage: str) -> Iterator[Path]:
        """An empty folder beside the stage's own, which it replaces when the block ends well."""
        final = self.folder(stage)
        beside = final.with_name(f".{final.name}.incomplete")
        if beside.exists():
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        try:
            with naming(str(final)):
                yield beside
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        replace_folder(beside, final)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest; an empty one where there is none.

        Raises:
            RunError: the file is not what burnish writes.
        """
        path = self.path / MANIFEST_NAME
        if not path.is_file():
            return {"stages": {}}
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(
                str(path), f"this is no manifest: {error}.", "Delete the file to run all again."
            ) from None
        stages = manifest.get("stages") if isinstance(manifest, dict) else None
        if not isinstance(stages, dict) or not all(map(_is_entry, stages.values())):
            raise RunError(
                str(path), "this is no manifest of burnish.", "Delete the file to run all again."
            )
        return manifest

    def forget(self, stage: str) -> None:
        """Takes a stage's entry out of the manifest, before its files change."""
        manifest = self.read_manifest()
        if manifest["stages"].pop(stage, None) is not None:
            write_json(self.path / MANIFEST_NAME, manifest)

    def record(self, stage: str, entry: Mapping[str, Any], recipe_text: str) -> None:
        """Writes what a stage made into the manifest, and the recipe that it was made from."""
        manifest = self.read_manifest()
        manifest |= {"burnish": __version__, "python": platform.python_version()}
        manifest["libraries"] = _library_versions()
        done = {**manifest["stages"], stage: dict(entry)}
        manifest["stages"] = {name: done[name] for name in FOLDERS if name in done}
        write_text(self.path / RECIPE_NAME, recipe_text)
        write_json(self.path / MANIFEST_NAME, manifest)

    def outputs(self, stage: str) -> dict[str, dict[str, Any]]:
        """Size, time and sha256 of every file that a stage wrote, by its path in the folder."""
        folder = self.folder(stage)
        return {
            path.relative_to(folder).as_posix(): _file_entry(path) for path in _files_of(folder)
        }

    def intact(self, stage: str, outputs: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether a stage's files are as they were; one of the same size and time is not read."""
        folder = self.folder(stage)
        return all(_is_unchanged(folder / name, entry) for name, entry in outputs.items())


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and "key" in value and isinstance(value.get("outputs"), dict)


def now() -> str:
    """The time of day in UTC, to the second (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(value: Any) -> str:
    """The sha256 of a value's canonical JSON; a file name that is no UTF-8 has one, too."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def outputs_digest(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash for all files of a stage: the parent link of the stages after it."""
    return digest({name: entry["sha256"] for name, entry in outputs.items()})


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A file to write that appears whole, or not at all if the block fails.

    Written beside, synced, renamed. A lone surrogate becomes its JSON escape, so that even a
    broken row can be written down.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.incomplete")
    try:
        with (
            naming(str(path)),
            beside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(path)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a file that appears whole or not at all."""
    with whole_file(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as readable JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line; the file appears whole or not at all."""
    with whole_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def replace_folder(beside: Path, final: Path) -> None:
    """Puts a finished folder in the place of another, which stays until the new one is safe."""
    for path in _files_of(beside):
        _sync_file(path)
    for folder in [beside, *(p for p in beside.rglob("*") if p.is_dir())]:
        _sync_folder(folder)
    previous = final.with_name(f".{final.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if final.exists():
        final.rename(previous)
    beside.rename(final)
    _sync_folder(final.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _files_of(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name != KEY_FILE
        and CHECKPOINTS not in path.relative_to(folder).parts[:1]
    )


def _file_entry(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file_sha256(path)}


def _is_unchanged(path: Path, entry: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    if path.stat().st_mtime_ns == entry["mtime_ns"]:
        return True
    return file_sha256(path) == str(entry["sha256"])


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
