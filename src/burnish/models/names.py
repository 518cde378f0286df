"""From a model's name in the recipe to a folder on this disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from burnish.errors import MissingExtraError, ModelError, first_line
from burnish.models import embedded
from burnish.progress import say
from burnish.recipe import ModelSection
from burnish.run_dir import digest, file_sha256

MODELSCOPE = "modelscope:"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py"]
_BROKEN = "Check that the download is whole, or fetch the model again."
_PICKLED = ["*.bin", "*.pt", "*.pth"]


def find_model(section: ModelSection, *, weights: bool = True) -> Path:
    """The folder that holds the model, fetched first where that is needed.

    Args:
        section: the recipe's model section.
        weights: False asks for config.json and the tokenizer alone; weights are then not fetched.

    Raises:
        ModelError: there is no such model, it is gated, or its weights are pickled.
    """
    name = section.name_or_path
    if name == embedded.NAME:
        return embedded.fetch()
    if name.startswith(MODELSCOPE):
        folder = _from_modelscope(name.removeprefix(MODELSCOPE), section, weights=weights)
    elif Path(os.path.expanduser(name)).is_dir():
        folder = Path(os.path.expanduser(name)).absolute()
    elif _HUB_ID.fullmatch(name):
        folder = _from_hugging_face(name, section, weights=weights)
    else:
        raise ModelError(
            name,
            "there is no such folder, and this is no id of the form owner/name.",
            f"Name a folder, a hub id, {MODELSCOPE}owner/name, or {embedded.NAME}.",
        )
    _check(folder, section, weights=weights)
    return folder


def fingerprint(folder: Path, *, weights: bool = True) -> str:
    """A hash that changes with the model: of its small files, and of its weights' names and sizes.

    Weights are not read, so this takes milliseconds. Without them it is the hash of the config and
    the tokenizer, the same whether the weights were fetched or not.
    """
    small = {p.name: file_sha256(p) for p in _matching(folder, ["*.json", "*.jinja"])}
    if not weights:
        return digest({"files": small})
    sizes = {
        p.name: [p.stat().st_size, p.stat().st_mtime_ns]
        for p in _matching(folder, ["*.safetensors", *_PICKLED])
    }
    return digest({"files": small, "weights": sizes})


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(p for pattern in patterns for p in folder.glob(pattern) if p.is_file())


def _check(folder: Path, section: ModelSection, *, weights: bool) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(
            str(folder),
            "this folder holds no config.json, so it is no model in Hugging Face's layout.",
            "Name the folder that holds config.json and the weights.",
        )
    if not weights or any(folder.glob("*.safetensors")):
        return
    if not _matching(folder, _PICKLED):
        raise ModelError(
            str(folder), "there are no weights in this folder.", "Look for *.safetensors files."
        )
    if not section.allow_pickle:
        raise ModelError(
            str(folder),
            "its weights are pickle files, and loading those can run code.",
            "Take a model with safetensors, or set model.allow_pickle: true if you trust it.",
        )


def _patterns(section: ModelSection, *, weights: bool) -> list[str]:
    """Which files of a model to fetch."""
    if not weights:
        return [pattern for pattern in _WANTED if pattern != "*.safetensors"]
    return _WANTED + (_PICKLED if section.allow_pickle else [])


def _from_hugging_face(name: str, section: ModelSection, *, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = _patterns(section, weights=weights)

    def snapshot(*, local: bool) -> Path:
        return Path(
            snapshot_download(
                name, revision=section.revision, allow_patterns=patterns, local_files_only=local
            )
        )

    try:
        folder = snapshot(local=True)
        if not weights and (folder / "config.json").is_file():
            return folder
        if weights and (any(folder.glob("*.safetensors")) or section.allow_pickle):
            return folder
    except LocalEntryNotFoundError:
        pass
    say(f"fetching {name} from the Hugging Face hub")
    try:
        return snapshot(local=False)
    except GatedRepoError:
        problem = "this model is gated: its owner asks you to accept a licence first."
        remedy = f"Accept it at https://huggingface.co/{name}, then log in with: hf auth login"
    except RevisionNotFoundError:
        problem = f"the model has no revision {section.revision}."
        remedy = "Name a branch, tag or commit that exists under model.revision."
    except RepositoryNotFoundError:
        problem = "the Hugging Face hub has no such model, or it is private."
        remedy = "Check the spelling; for a private model log in with: hf auth login"
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        problem = f"the Hugging Face hub can't be reached ({first_line(error)})."
        remedy = (
            "Check the network; in China set HF_ENDPOINT to a mirror, take "
            f"{MODELSCOPE}{name}, or name a local folder."
        )
    raise ModelError(name, problem, remedy)


def _from_modelscope(name: str, section: ModelSection, *, weights: bool) -> Path:
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise MissingExtraError("modelscope", "modelscope") from None
    patterns = _patterns(section, weights=weights)

    def snapshot(*, local: bool) -> Path:
        return Path(
            snapshot_download(
                name, revision=section.revision, allow_patterns=patterns, local_files_only=local
            )
        )

    cached = _quietly(lambda: snapshot(local=True))
    if cached is not None and (not weights or _matching(cached, ["*.safetensors", *_PICKLED])):
        return cached
    say(f"fetching {name} from ModelScope")
    try:
        return snapshot(local=False)
    except Exception as error:  # the package documents no exceptions of its own
        raise ModelError(
            MODELSCOPE + name,
            f"ModelScope did not give this model ({first_line(error)}).",
            "Check the spelling and the network; for a private model run: modelscope login",
        ) from None


def _quietly(attempt: Callable[[], Path]) -> Path | None:
    try:
        return attempt()
    except Exception:  # not in the cache; the package documents no exceptions of its own
        return None


def read_config(folder: Path) -> dict[str, object]:
    """The model's config.json.

    Raises:
        ModelError: it is no JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(str(path), f"this is no JSON: {first_line(error)}.", _BROKEN) from None
    if not isinstance(config, dict):
        raise ModelError(str(path), "this is no JSON object.", _BROKEN)
    return config
