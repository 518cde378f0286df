"""`burnish sweep`: the same run with other settings, one run folder each, and a table of them.

The trials stand in the folder `sweep` of the run. Each begins with hard links to what clean and
prepare made for the run, so that only what a setting changes is done again, and trains in a process
of its own: memory is measured for it alone, and one that fails does not stop the others. A trial
that is done is not run again.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, MissingExtraError, RecipeError, RunError
from burnish.exits import GO_ON_LATER, INTERRUPTED, TERMINATED
from burnish.pipeline import run_stage
from burnish.progress import say
from burnish.recipe_file import LoadedRecipe, load_recipe, yaml_values
from burnish.run_dir import FOLDERS, MANIFEST_NAME, RunDir, digest, write_json, write_text

Report = dict[str, Any]

TABLE_NAME = "sweep.md"
COLUMNS = {
    "validation/loss": "validation loss",
    "train/loss": "training loss",
    "best_step": "best step",
    "steps": "steps",
    "useful_tokens_per_second": "tokens/s",
    "peak_memory_gib": "GiB",
}

_RANGE = re.compile(r"([^.\s]\S*?)\.\.(\S+?)(:log)?")


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting and the values that it takes, or the range that a search draws them from."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def is_range(self) -> bool:
        """Whether values are drawn rather than listed."""
        return not self.values

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice of settings, and the folder of its run."""

    settings: Mapping[str, Any]
    folder: Path

    @property
    def overrides(self) -> list[str]:
        """The settings as `--set` takes them."""
        chosen = [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]
        return [*chosen, f"run_dir={json.dumps(str(self.folder))}"]


@dataclass(slots=True)
class _Sweep:
    recipe: Path
    overrides: tuple[str, ...]
    run: RunDir
    force: bool
    rows: list[Report] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.run.path / "sweep"

    def trial(self, settings: Mapping[str, Any]) -> tuple[Trial, LoadedRecipe]:
        """A trial, whose recipe is checked.

        Raises:
            RecipeError: a setting does not exist or can't have that value.
        """
        trial = Trial(settings, self.folder / _name(settings))
        return trial, load_recipe(self.recipe, [*self.overrides, *trial.overrides])


def parse_axis(text: str) -> Axis:
    """An axis from `key=value,value` or, for a search, `key=low..high` or `key=low..high:log`.

    Raises:
        RecipeError: it is none of these.
    """
    key, equals, listed = (part.strip() for part in text.partition("="))
    if not (key and equals and listed):
        raise RecipeError(
            f"--vary {text}",
            "this is no setting with values.",
            "Write it as train.learning_rate=1e-4,3e-4, or train.learning_rate=1e-5..1e-3:log.",
        )
    match = _RANGE.fullmatch(listed)
    if match is None:
        values = tuple(yaml_values(listed, f"--vary {text}"))
        return Axis(key, values)
    low, high = yaml_values(f"{match[1]},{match[2]}", f"--vary {text}")
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (low, high))
    if not numbers or low >= high or (match[3] and low <= 0):
        raise RecipeError(
            f"--vary {text}",
            f"{listed} is no range of numbers.",
            "The lower end comes first; on a logarithmic scale it is above 0.",
        )
    return Axis(key, low=low, high=high, log=bool(match[3]))


def sweep(
    recipe: Path,
    overrides: Sequence[str],
    vary: Sequence[str],
    *,
    search: int | None = None,
    force: bool = False,
) -> Report:
    """Trains once for every combination of values, or for so many that Optuna chooses.

    Args:
        recipe: a recipe file, or a run folder.
        overrides: settings that all trials have, as `--set` takes them.
        vary: one text for each setting that varies, as `parse_axis` takes it.
        search: how many trials a search has; None tries all combinations.
        force: run all trials again.

    Returns:
        The trials with what they reached, the best first, and the settings of the best.

    Raises:
        RecipeError: an axis is wrong, or a value does not fit its setting.
        RunError: no trial succeeded.
    """
    loaded = load_recipe(recipe, overrides)
    axes = [parse_axis(text) for text in vary]
    _check_axes(axes, search)
    job = _Sweep(recipe, tuple(overrides), RunDir(loaded.run_dir), force)
    # Faults of a recipe are found before anything is run; a range is tried at its ends.
    for settings in _combinations(axes):
        job.trial(settings)
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    if search is None:
        for settings in _combinations(axes):
            _run_trial(job, settings)
    else:
        _search(job, axes, search, seed=loaded.recipe.train.seed)
    return _report(job, [axis.key for axis in axes])


def _check_axes(axes: Sequence[Axis], search: int | None) -> None:
    if not axes:
        raise RecipeError(
            "--vary", "nothing varies.", "Name a setting: --vary train.learning_rate=1e-4,3e-4"
        )
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise RecipeError(f"--vary {key}", "it is given twice.", "Put all its values in one.")
    if search is None and any(axis.is_range for axis in axes):
        raise RecipeError(
            "--vary", "a range has no end of values.", "Say how many to try with --search 10."
        )


def _combinations(axes: Sequence[Axis]) -> Iterable[dict[str, Any]]:
    values = [(axis.low, axis.high) if axis.is_range else axis.values for axis in axes]
    for chosen in itertools.product(*values):
        yield dict(zip((axis.key for axis in axes), chosen, strict=True))


def _name(settings: Mapping[str, Any]) -> str:
    """A folder name that a person can read, and that no other settings have."""
    text = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
    safe = re.sub(r"[^\w.,=+-]+", "_", text)
    return safe if safe == text and len(safe) < 80 else f"{safe[:60]}-{digest(dict(settings))[:8]}"


# --- one trial ------------------------------------------------------------------------------------


def _run_trial(job: _Sweep, settings: Mapping[str, Any]) -> float | None:
    """Runs a trial and writes the table anew; the loss it reached, or None if it failed."""
    trial, loaded = job.trial(settings)
    say(f"sweep: {trial.folder.name}")
    row: Report = dict(settings)
    try:
        _link_stages(job.run, trial.folder)
        for stage in ("clean", "prepare"):
            run_stage(stage, loaded)
        row |= _train(job, trial)
    except BurnishError as error:
        say(f"sweep: {trial.folder.name} failed: {error}")
        row["failed"] = str(error)
    job.rows.append(row)
    _write_table(job, list(settings))
    return row.get("validation/loss", row.get("train/loss"))


def _link_stages(run: RunDir, folder: Path) -> None:
    """Gives a new trial what clean and prepare made for the run, as hard links or copies."""
    if (folder / MANIFEST_NAME).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = run.read_manifest()
    kept = {name: manifest["stages"][name] for name in ("clean", "prepare")}
    for name in kept:
        shutil.copytree(run.folder(name), folder / FOLDERS[name], copy_function=_link)
    write_json(folder / MANIFEST_NAME, {**manifest, "stages": kept})


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
    return target


def _train(job: _Sweep, trial: Trial) -> Report:
    """The report of `burnish train` for a trial, in a process of its own.

    Raises:
        RunError: it failed.
        SystemExit: it was interrupted, and so is the sweep.
    """
    command = [sys.executable, "-m", "burnish", "train", str(job.recipe), "--json"]
    for setting in (*job.overrides, *trial.overrides):
        command += ["--set", setting]
    done = subprocess.run(
        [*command, *(["--force"] if job.force else [])], stdout=subprocess.PIPE, text=True
    )
    # A process that a signal has ended itself gives the signal's number, negative.
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    if code in (INTERRUPTED, TERMINATED, GO_ON_LATER):
        raise SystemExit(code)
    if done.returncode:
        raise RunError(
            str(trial.folder), f"training ended with code {done.returncode}.", "See above."
        )
    report: Report = json.loads(done.stdout)
    return {name: report[name] for name in COLUMNS if name in report}


# --- a search -------------------------------------------------------------------------------------


def _search(job: _Sweep, axes: Sequence[Axis], count: int, *, seed: int) -> None:
    """Lets Optuna choose settings by what earlier trials reached.

    It is seeded, so a rerun asks for the same trials again, and those that are done stand ready.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for _ in range(count):
        asked = study.ask()
        loss = _run_trial(job, {axis.key: _suggest(asked, axis) for axis in axes})
        if loss is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, loss)


def _suggest(asked: Any, axis: Axis) -> Any:
    if not axis.is_range:
        return asked.suggest_categorical(axis.key, axis.values)
    if axis.is_whole:
        return asked.suggest_int(axis.key, axis.low, axis.high, log=axis.log)
    return asked.suggest_float(axis.key, axis.low, axis.high, log=axis.log)


# --- the table ------------------------------------------------------------------------------------


def _sorted(rows: Iterable[Report]) -> list[Report]:
    def rank(row: Report) -> tuple[bool, float]:
        loss = row.get("validation/loss")
        loss = row.get("train/loss") if loss is None else loss
        return "failed" in row or loss is None, loss or 0.0

    return sorted(rows, key=rank)


def _write_table(job: _Sweep, keys: Sequence[str]) -> None:
    shown = [*keys, *COLUMNS.values(), "failed"]
    lines = [f"| {' | '.join(shown)} |", "|---" * len(shown) + "|"]
    for row in _sorted(job.rows):
        cells = [row.get(name) for name in (*keys, *COLUMNS, "failed")]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    write_text(job.folder / TABLE_NAME, "\n".join(lines) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _report(job: _Sweep, keys: Sequence[str]) -> Report:
    trials = _sorted(job.rows)
    best = trials[0]
    if "failed" in best:
        raise RunError(str(job.folder), "no trial succeeded.", f"The first says: {best['failed']}")
    return {
        "trials": trials,
        "best": [f"--set {shlex.quote(f'{key}={json.dumps(best[key])}')}" for key in keys],
        "table": str(job.folder / TABLE_NAME),
    }
