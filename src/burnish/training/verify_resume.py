"""`burnish verify-resume`: a recipe's own training, whole and cut in two, compared bit by bit.

Each part runs in a process of its own, as after a crash, in a scratch folder beside the run's own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from burnish.errors import TrainingError
from burnish.exits import GO_ON_LATER
from burnish.models.loading import trains_in_bf16
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir
from burnish.terminal import quiet_libraries
from burnish.training import checkpoint

VALIDATION_ROWS = 8
"""Evaluations belong to what is resumed, but a few rows are enough for them."""

_OF_THE_CLOCK = {"seconds", "cpu_seconds", "best_model_checkpoint", "lines"}
"""What may differ: times, where the folder lies, and how many lines a journal has."""


class ResumeReport(BaseModel):
    """Whether training that was cut and resumed came to the same as training in one go."""

    model_config = ConfigDict(frozen=True)

    steps: int
    cut: int
    values_compared: int
    equal: bool
    first_difference: str | None


def verify_resume(
    model: ModelSection, section: TrainSection, run: RunDir, *, steps: int, cut: int
) -> ResumeReport:
    """Trains some steps in one go, and again with a cut, and compares what is saved at the end.

    Compared are the adapter, the optimizer, the schedule, random numbers, losses and counters.

    Raises:
        TrainingError: the cut is not within the steps, the recipe has fewer of them, or a process
            was killed.
    """
    if not 0 < cut < steps:
        raise TrainingError(
            "--cut", f"{cut} is not between 0 and {steps}.", "Name a step within --steps."
        )
    bf16 = trains_in_bf16(section.bf16)  # for all its processes
    section = section.model_copy(update={"report_to": [], "allow_changed": [], "bf16": bf16})
    with tempfile.TemporaryDirectory(prefix=".verify-resume-", dir=run.path) as scratch:
        folders = [_scratch_run(run, Path(scratch) / name) for name in ("whole", "cut")]
        whole, halves = folders
        say(f"training {steps} steps in one go")
        last = _in_own_process(model, section, whole, steps)
        if last <= cut:
            raise TrainingError(
                "--cut", f"this recipe trains {last} steps in all.", "Name a step before that."
            )
        for until in (cut, steps):
            say(f"training {'until it is cut at' if until == cut else 'on to'} step {until}")
            _in_own_process(model, section, halves, until)
        name = f"checkpoint-{last}"
        compared, difference = compare(whole.checkpoints / name, halves.checkpoints / name)
    return ResumeReport(
        steps=last,
        cut=cut,
        values_compared=compared,
        equal=difference is None,
        first_difference=difference,
    )


def refuse_difference(report: ResumeReport) -> None:
    """Ends a command whose training did not resume exactly.

    Raises:
        TrainingError: names what differs first.
    """
    if report.first_difference is not None:
        raise TrainingError(
            f"step {report.steps}",
            f"cut at step {report.cut} and resumed, training comes to something else: "
            f"{report.first_difference}.",
            "On a GPU some operations have no fixed order of sums; elsewhere this is a fault of "
            "burnish, please report it with the recipe.",
        )


def compare(one: Path, other: Path) -> tuple[int, str | None]:
    """How many values two checkpoints hold in common, and the first that is not the same."""
    count = 0
    for name in sorted({p.name for folder in (one, other) for p in folder.iterdir()}):
        if name in (checkpoint.SEAL, "training_args.bin", "README.md"):
            continue
        own, others = _contents(one / name), _contents(other / name)
        for where, left, right in _pairs(own, others, name):
            count += 1
            if left != right:
                return count, where
    return count, None


def _scratch_run(run: RunDir, path: Path) -> RunDir:
    """A run folder with the run's prepared rows, and few of those to validate with."""
    from datasets import load_from_disk
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    scratch = RunDir(path)
    scratch.folder("prepare").mkdir(parents=True)
    for item in run.folder("prepare").absolute().iterdir():
        if item.name != "validation":
            _link(item, scratch.folder("prepare") / item.name)
    rows = load_from_disk(str(run.split("validation")))
    few = rows.select(range(min(len(rows), VALIDATION_ROWS)))
    few.save_to_disk(str(scratch.split("validation")), num_shards=1)
    scratch.folder("train").mkdir()
    return scratch


def _link(item: Path, place: Path) -> None:
    if os.name != "nt":  # there, links are for administrators
        place.symlink_to(item)
    elif item.is_dir():
        shutil.copytree(item, place)
    else:
        shutil.copy2(item, place)


def _in_own_process(model: ModelSection, section: TrainSection, run: RunDir, until: int) -> int:
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=quiet_libraries) as pool:
        try:
            return pool.submit(_train_until, model, section, run, until).result()
        except BrokenProcessPool:
            raise TrainingError(
                "verify-resume",
                "a training process ended without a word, perhaps for want of memory.",
                "See with burnish plan what the recipe needs.",
            ) from None


def _train_until(model: ModelSection, section: TrainSection, run: RunDir, until: int) -> int:
    """Trains, or goes on, up to a step, and saves there; returns the step."""
    from transformers import TrainerCallback

    from burnish import progress
    from burnish.training.journal import METRICS_NAME
    from burnish.training.metrics import Reporter
    from burnish.training.train import go, ready

    progress.stderr.quiet = True

    class StopAfter(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= min(until, state.max_steps):
                trainer.stop.ask()

    reporter = Reporter(run.folder("train") / METRICS_NAME)
    trainer, start, _ = ready(model, section, run, reporter)
    trainer.add_callback(StopAfter())
    try:
        go(trainer, start, reporter, run)
    except SystemExit as ended:
        if ended.code != GO_ON_LATER:
            raise
    return int(trainer.state.global_step)


# --- comparing -----------------------------------------------------------------------------------


def _contents(path: Path) -> Any:
    if not path.is_file():
        return None
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix in (".pt", ".pth"):
        import torch
        from transformers.trainer_pt_utils import safe_globals

        with safe_globals():
            return torch.load(path, weights_only=True, map_location="cpu")
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return path.read_bytes()


def _pairs(one: Any, other: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """The values of two nested structures side by side, with where they stand."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if key not in _OF_THE_CLOCK:
                yield from _pairs(one.get(key), other.get(key), f"{where}: {key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            yield f"{where} (its length)", len(one), len(other)
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from _pairs(left, right, f"{where}: {index}")
    else:
        yield where, _bits(one), _bits(other)


def _bits(value: Any) -> Any:
    """A value that can be compared: tensors and arrays by their bits, so that nan equals nan."""
    if hasattr(value, "untyped_storage"):
        import torch

        flat = value.detach().cpu().contiguous().reshape(-1)
        return tuple(value.shape), str(value.dtype), bytes(flat.view(torch.uint8).numpy())
    if hasattr(value, "tobytes"):
        return value.tobytes()
    return repr(value)
