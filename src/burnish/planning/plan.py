"""The plan verb: what a recipe needs before anything is trained, and what would make it fit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from burnish.conversation import Conversation
from burnish.errors import BurnishError, ModelError
from burnish.models.names import find_model
from burnish.planning.batches import packing_efficiency
from burnish.planning.disk import disk_bytes
from burnish.planning.fixes import fixes, smaller_model
from burnish.planning.loops import PADDED, Loop
from burnish.planning.machine import GIB, available_gib
from burnish.planning.memory import Device, Place
from burnish.planning.outlook import Outlook, dtype_on, outlook
from burnish.planning.report import DataLook, MemoryLook, ModelLook, PlanReport
from burnish.planning.rows import Rows, prepared_rows, rendered_rows
from burnish.planning.shape import empty_model, num_active, num_experts, read_shape, with_adapter
from burnish.planning.shape import num_parameters as count
from burnish.planning.step_time import Pace, work_of
from burnish.planning.timing import measured_pace, time_look
from burnish.progress import say
from burnish.recipe import Recipe
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir

ROOM = 0.95
"""Share of a GPU's memory that training may fill."""

_LIBRARIES = """
import torch, transformers.trainer, peft, accelerate, datasets
from burnish.planning.loops import PADDED, Loop
from burnish.planning.machine import resident_bytes
print(resident_bytes())
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What to plan for.

    Attributes:
        gpu_gib: memory of the GPU that is meant; None plans for this machine as it is.
        price_per_hour: what an hour of it costs, in any currency.
        calibrate: whether to run a few micro batches for the time they take.
        model_config: a config.json, or its folder, that stands for the recipe's model.
    """

    gpu_gib: float | None = None
    price_per_hour: float | None = None
    calibrate: bool = True
    model_config: Path | None = None


def plan(
    recipe: Recipe,
    run: RunDir,
    is_prepared: bool,
    target: Target,
    loop_on: Callable[[Device], Loop] = lambda device: PADDED,
) -> PlanReport:
    """What a recipe needs, whether it fits, and the smallest changes that make it fit.

    Args:
        recipe: the recipe.
        run: a run folder that holds cleaned rows.
        is_prepared: whether it holds prepared ones, too, by this very recipe.
        target: what to plan for.
        loop_on: the training loop on a device.

    Raises:
        ModelError: the model's config.json can't be found or used.
        DataError: there is no row to train on.
    """
    folder = _config_folder(recipe, target)
    config = read_shape(folder, trust_remote_code=recipe.model.trust_remote_code)
    rows = _rows(recipe, run, folder, is_prepared=is_prepared)
    device, room = _device(target)
    libraries = _libraries_gib()

    def look(changed: Recipe, *, on: Device = device, shape: Any = config) -> Outlook:
        return outlook(changed, shape, rows, Place(on, libraries, loop_on(on)))

    others: Device = "cpu" if device == "cuda" else "cuda"
    seen = {device: look(recipe), others: look(recipe, on=others)}
    rooms = {device: room, others: available_gib() if others == "cpu" else None}
    fits = seen[device].memory.peak <= room
    model = empty_model(config, dtype_on(device, recipe.train.bf16))
    adapted = with_adapter(model, recipe.train.lora)
    work = work_of(adapted, checkpointing=bool(recipe.train.gradient_checkpointing))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    num_weights = count(adapted) - trained
    pace = None
    if target.gpu_gib is None or torch.cuda.is_available():
        whole = any(folder.glob("*.safetensors")) and target.model_config is None
        may_run = target.calibrate and whole and fits
        pace = measured_pace(recipe, folder, seen[device], work, run=may_run, loop=loop_on(device))
    changes = [] if fits else _changes(recipe, rows, room, look, config, loop_on(device))
    return PlanReport(
        model=ModelLook(
            name=str(target.model_config or recipe.model.name_or_path),
            weights=num_weights,
            weights_per_token=num_active(model) - trained,
            trained_weights=trained,
        ),
        data=_data(rows, seen[device]),
        memory_gib={name: _memory(outlook_, rooms[name]) for name, outlook_ in seen.items()},
        time=time_look(seen[device], pace, work, target.price_per_hour) if pace else None,
        disk_gib=_disk(recipe, config, trained, rows),
        fits=fits,
        changes_that_fit=changes,
        notes=_notes(recipe, config, rows, target, pace),
    )


def _config_folder(recipe: Recipe, target: Target) -> Path:
    chosen = target.model_config
    if chosen is None:
        return find_model(recipe.model, weights=False)
    folder = chosen if chosen.is_dir() else chosen.parent
    if not (folder / "config.json").is_file() or (chosen != folder and not chosen.is_file()):
        raise ModelError(
            str(chosen),
            "there is no config.json here.",
            "Name a config.json of Hugging Face's layout, or its folder.",
        )
    return folder


def _rows(recipe: Recipe, run: RunDir, folder: Path, *, is_prepared: bool) -> Rows:
    if is_prepared:
        return prepared_rows(run)
    with run.conversations.open(encoding="utf-8") as file:
        conversations = [Conversation.from_json(line) for line in file]
    try:
        tokenizer = load_tokenizer(folder, recipe.model)
    except BurnishError as error:
        say(f"tokens are guessed from characters: {error.where}: {error.problem}")
        tokenizer = None
    return rendered_rows(conversations, tokenizer, recipe.prepare)


def _device(target: Target) -> tuple[Device, float]:
    """Where to plan for, and the GiB that there are."""
    if target.gpu_gib is not None:
        return "cuda", ROOM * target.gpu_gib
    if torch.cuda.is_available():
        return "cuda", ROOM * torch.cuda.get_device_properties(0).total_memory / GIB
    return "cpu", available_gib()


def _libraries_gib() -> float:
    """What a process takes that has only loaded what training needs."""
    command = [sys.executable, "-c", _LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / GIB


def _changes(
    recipe: Recipe, rows: Rows, room: float, look: Callable[..., Outlook], config: Any, loop: Loop
) -> list[str]:
    found = fixes(recipe, rows, room, look, loop.smaller)
    shape = smaller_model(config, room, lambda shape: look(recipe, shape=shape))
    return [*found, shape] if shape else found


def _data(rows: Rows, seen: Outlook) -> DataLook:
    batches = seen.training
    lengths = rows.lengths.clip(max=seen.recipe.prepare.max_length)
    row = max(seen.recipe.train.row_length, int(lengths.max()))
    return DataLook(
        source=rows.source,
        num_examples=batches.num_records,
        num_tokens=int(batches.tokens.sum()),
        num_supervised_tokens=int(batches.supervised.sum()),
        longest=int(lengths.max()),
        num_cut=seen.num_cut,
        padding_of_this_loop=round(batches.padding_share, 4),
        packing_efficiency=round(packing_efficiency(lengths.tolist(), row), 4),
    )


def _memory(seen: Outlook, room: float | None) -> MemoryLook:
    found = seen.memory
    return MemoryLook(
        dtype=str(found.dtype).removeprefix("torch."),
        **{name: round(value, 3) for name, value in found.parts.items()},
        peak=round(found.peak, 3),
        worst_moment=found.worst,
        available=None if room is None else round(room, 2),
        fits=None if room is None else found.peak <= room,
    )


def _disk(recipe: Recipe, config: Any, trained: int, rows: Rows) -> dict[str, float]:
    num_tokens = int(rows.lengths.sum() + rows.held_lengths.sum())
    sizes = disk_bytes(recipe, config, num_trained=trained, num_tokens=num_tokens)
    found = {name: round(size / GIB, 3) for name, size in sizes.items()}
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return {**found, "all": round(sum(sizes.values()) / GIB, 3), "free here": round(free, 1)}


def _notes(recipe: Recipe, config: Any, rows: Rows, target: Target, pace: Pace | None) -> list[str]:
    notes = []
    if rows.estimated:
        notes.append("counts of rows and tokens are estimates until prepare has been run")
    if num_experts(config.get_text_config()):
        notes.append("a mixture of experts: weights per token and memory are approximate")
    if target.gpu_gib is not None:
        notes.append("memory on a GPU is by a formula that was not checked on this one")
    if pace is None:
        notes.append("no time is given for a GPU that is not here")
    if recipe.merge.dtype != "float32":
        notes.append("merging needs the whole base in float32 in memory: 4 bytes a weight")
    return notes
