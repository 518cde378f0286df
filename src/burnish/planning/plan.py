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
from burnish.machine import GIB, available_gib
from burnish.models.loading import check_causal
from burnish.models.names import find_model
from burnish.models.prequantized import quantization_of
from burnish.planning.cluster import Link, cluster_look
from burnish.planning.disk import disk_bytes
from burnish.planning.fixes import fixes, smaller_model
from burnish.planning.link import measured_link
from burnish.planning.loops import Device, LoopOf, check_offloading
from burnish.planning.memory import LEAST_HOST_GIB, ROOM, Place
from burnish.planning.outlook import Outlook, outlook
from burnish.planning.report import ClusterLook, DataLook, MemoryLook, ModelLook, PlanReport
from burnish.planning.rows import Rows, prepared_rows, rendered_rows
from burnish.planning.shape import empty_model, num_active, num_experts, read_shape
from burnish.planning.shape import num_parameters as count
from burnish.planning.step import build
from burnish.planning.step_time import Pace, Passes, passes_of
from burnish.planning.timing import measured_pace, time_look
from burnish.progress import say
from burnish.recipe import Recipe
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir

_LIBRARIES = """
import torch, transformers.trainer, peft, accelerate, datasets
from burnish.machine import resident_bytes
print(resident_bytes())
"""

Look = Callable[..., Outlook]


@dataclass(frozen=True, slots=True)
class Target:
    """What to plan for.

    Attributes:
        gpu_gib: memory of the GPU that is meant; None plans for this machine as it is.
        price_per_hour: what an hour of it costs, in any currency.
        calibrate: whether to run a few rows for the time they take.
        model_config: a config.json, or its folder, that stands for the recipe's model.
        num_processes: how many of such machines or GPUs share the work.
        link: what lies between them; None measures it between two processes here.
    """

    gpu_gib: float | None = None
    price_per_hour: float | None = None
    calibrate: bool = True
    model_config: Path | None = None
    num_processes: int = 1
    link: Link | None = None


def plan(
    recipe: Recipe, run: RunDir, is_prepared: bool, target: Target, loop_of: LoopOf
) -> PlanReport:
    """What a recipe needs, whether it fits, and the smallest changes that make it fit.

    Args:
        recipe: the recipe.
        run: a run folder that holds cleaned rows.
        is_prepared: whether it holds prepared ones, too, by this very recipe.
        target: what to plan for.
        loop_of: the training loop.

    Raises:
        ModelError: the model's config.json can't be found or used.
        DataError: there is no row to train on.
    """
    folder = _config_folder(recipe, target)
    check_causal(folder, trust_remote_code=recipe.model.trust_remote_code)
    config = read_shape(folder, trust_remote_code=recipe.model.trust_remote_code)
    quantized = quantization_of(folder)
    rows = _rows(recipe, run, folder, is_prepared=is_prepared)
    device, *_ = places = _places(target)
    check_offloading(recipe.train, device)

    def look(
        changed: Recipe, *, on: Device = device, shape: Any = config, num_processes: int = 1
    ) -> Outlook:
        loop = loop_of(changed, shape, on, num_processes)
        return outlook(changed, shape, rows, places[on], loop)

    seen = {name: look(recipe, on=name) for name in places}
    here = seen[device]
    adapted = build(here.setting)
    pace, passes = _pace(here, target, folder, adapted)
    return PlanReport(
        model=_model(here, target, _num_trained(adapted)),
        data=_data(rows, here),
        memory_gib={name: _memory(outlook_) for name, outlook_ in seen.items()},
        time=time_look(here, pace, passes, target.price_per_hour) if pace else None,
        cluster=_cluster(target, look, recipe, pace),
        disk_gib=_disk(here, config, _num_trained(adapted), rows),
        fits=here.fits,
        changes_that_fit=[] if here.fits else _changes(here, rows, look, quantized),
        notes=_notes(here, rows, target, pace, quantized),
    )


def _config_folder(recipe: Recipe, target: Target) -> Path:
    chosen = target.model_config
    if chosen is None:
        return find_model(recipe.model, weights=False)
    folder = chosen if chosen.is_dir() else chosen.parent
    if not (folder / "config.json").is_file() or chosen not in (folder, folder / "config.json"):
        other = "this file has another name, which nobody would look for."
        raise ModelError(
            str(chosen),
            other if chosen.is_file() else "there is no config.json here.",
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


def _places(target: Target) -> dict[Device, Place]:
    """Where to plan for, and first where it is meant to take place."""
    libraries = _libraries_gib()
    own = ROOM["cpu"] * available_gib()
    cpu = Place("cpu", libraries, own)
    if target.gpu_gib is not None:
        gpu = Place("cuda", libraries, ROOM["cuda"] * target.gpu_gib)
    elif torch.cuda.is_available():
        free = torch.cuda.mem_get_info()[0] / GIB
        host = max(own - libraries, LEAST_HOST_GIB)
        gpu = Place("cuda", libraries, ROOM["cuda"] * free, host)
    else:
        return {"cpu": cpu, "cuda": Place("cuda", libraries)}
    return {"cuda": gpu, "cpu": cpu}


def _libraries_gib() -> float:
    """What a process takes that has only loaded what training needs."""
    command = [sys.executable, "-c", _LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / GIB


def _pace(here: Outlook, target: Target, folder: Path, adapted: Any) -> tuple[Pace | None, Passes]:
    """How fast this machine is, if it is the one that is planned for, and what rows cost."""
    passes = passes_of(adapted, num_recomputed=here.memory.recomputed_layers)
    if target.gpu_gib is not None and not torch.cuda.is_available():
        return None, passes
    whole = any(folder.glob("*.safetensors")) and target.model_config is None
    may_run = target.calibrate and whole and here.fits
    return measured_pace(here, folder, passes, run=may_run), passes


def _cluster(target: Target, look: Look, recipe: Recipe, pace: Pace | None) -> ClusterLook | None:
    if target.num_processes < 2:
        return None
    part = look(recipe, num_processes=target.num_processes)
    sent = min(4 * _num_trained(build(part.setting)), 4 * part.loop.bucket)
    link = target.link or measured_link(sent)
    return cluster_look(part, target.num_processes, link, pace)


def _changes(here: Outlook, rows: Rows, look: Look, quantized: str | None) -> list[str]:
    found = fixes(
        here.recipe,
        rows,
        look,
        here.loop.smaller,
        is_quantized=quantized is not None,
        device=here.place.device,
    )
    shape = smaller_model(here.setting.config, lambda shape: look(here.recipe, shape=shape))
    return [*found, shape] if shape else found


def _model(seen: Outlook, target: Target, num_trained: int) -> ModelLook:
    base = empty_model(seen.setting.config, torch.float32)
    return ModelLook(
        name=str(target.model_config or seen.recipe.model.name_or_path),
        layers=seen.setting.depth,
        weights=count(base),
        weights_per_token=num_active(base),
        trained_weights=num_trained,
    )


def _num_trained(adapted: Any) -> int:
    return int(sum(p.numel() for p in adapted.parameters() if p.requires_grad))


def _data(rows: Rows, seen: Outlook) -> DataLook:
    return DataLook(
        source=rows.source,
        num_examples=len(seen.lengths),
        num_tokens=int(seen.lengths.sum()),
        num_computed_tokens=round(seen.training.whole(seen.training.lengths)),
        num_supervised_tokens=int(seen.supervised.sum()),
        longest=int(seen.lengths.max()),
        num_cut=seen.num_cut,
        packing_efficiency=round(seen.training.packing_efficiency, 4),
    )


def _memory(seen: Outlook) -> MemoryLook:
    found, room = seen.memory.model_dump(), seen.place.room_gib
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}
    return MemoryLook(
        **rounded,
        available=None if room is None else round(room, 2),
        fits=None if room is None else seen.fits,
    )


def _disk(seen: Outlook, config: Any, trained: int, rows: Rows) -> dict[str, float]:
    sizes = disk_bytes(
        seen.recipe,
        config,
        num_trained=trained,
        num_tokens=int(rows.lengths.sum() + rows.held_lengths.sum()),
        num_checkpoints=seen.num_checkpoints,
    )
    found = {name: round(size / GIB, 3) for name, size in sizes.items()}
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return {**found, "all": round(sum(sizes.values()) / GIB, 3), "free here": round(free, 1)}


def _notes(
    seen: Outlook, rows: Rows, target: Target, pace: Pace | None, quantized: str | None
) -> list[str]:
    notes = []
    if rows.estimated:
        notes.append("counts of rows and tokens are estimates until prepare has been run")
    if num_experts(seen.setting.config.get_text_config()):
        notes.append("a mixture of experts: weights per token and memory are approximate")
    if target.gpu_gib is not None:
        notes.append("memory on a GPU is by a formula that was not checked on this one")
        if pace is None:
            notes.append("no time is given for a GPU that is not here")
    elif pace is None:
        notes.append("no time is given for a quantized base that was not run")
    if quantized:
        notes.append(
            f"the base is quantized by {quantized}: its weights count as if they were whole"
        )
    if seen.recipe.merge.dtype != "float32":
        notes.append("merging needs the whole base in float32 in memory: 4 bytes a weight")
    return notes
