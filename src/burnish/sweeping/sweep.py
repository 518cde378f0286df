"""The sweep verb: all trials, one after the other, and what they reached.

The trials stand in the folder `sweep` of the run. Each trains in a process of its own: memory is
measured for it alone, and one that fails does not stop the others. A trial that is done is not run
again.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, MissingExtraError, RunError
from burnish.exits import GO_ON_LATER, INTERRUPTED, TERMINATED
from burnish.pipeline import run_stage
from burnish.progress import say
from burnish.recipe_file import LoadedRecipe, load_recipe
from burnish.run_dir import RunDir, write_text
from burnish.sweeping.axes import Axis, check_axes, combinations, parse_axis
from burnish.sweeping.trials import Trial, folder_name, in_own_process, link_stages, option

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
        trial = Trial(settings, self.folder / folder_name(settings))
        return trial, load_recipe(self.recipe, [*self.overrides, *trial.overrides])


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
    check_axes(axes, search)
    job = _Sweep(recipe, tuple(overrides), RunDir(loaded.run_dir), force)
    # Faults of a recipe are found before anything is run; a range is tried at its ends.
    for settings in combinations(axes):
        job.trial(settings)
    if search is not None:
        _optuna()
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    if search is None:
        for settings in combinations(axes):
            _run_trial(job, settings)
    else:
        _search(job, axes, search, seed=loaded.recipe.train.seed)
    return _report(job, [axis.key for axis in axes])


# --- one trial ------------------------------------------------------------------------------------


def _run_trial(job: _Sweep, settings: Mapping[str, Any]) -> float | None:
    """Runs a trial and writes the table anew; the loss it reached, or None if it failed."""
    trial, loaded = job.trial(settings)
    say(f"sweep: {trial.folder.name}")
    row: Report = dict(settings)
    try:
        link_stages(job.run, trial.folder)
        for stage in ("clean", "prepare"):
            run_stage(stage, loaded)
        row |= _train(job, trial)
    except BurnishError as error:
        say(f"sweep: {trial.folder.name} failed: {error}")
        row["failed"] = str(error)
    job.rows.append(row)
    _write_table(job, list(settings))
    return _loss(row)


def _train(job: _Sweep, trial: Trial) -> Report:
    """The report of `burnish train` for a trial, in a process of its own.

    Raises:
        RunError: it failed.
        SystemExit: it was interrupted, and so is the sweep.
    """
    command = [sys.executable, "-m", "burnish", "train", str(job.recipe), "--json"]
    for setting in (*job.overrides, *trial.overrides):
        command += ["--set", setting]
    code, out, error = in_own_process([*command, *(["--force"] if job.force else [])])
    # A process that a signal has ended itself gives the signal's number, negative.
    code = code if code >= 0 else 128 - code
    if code in (INTERRUPTED, TERMINATED, GO_ON_LATER):
        raise SystemExit(code)
    if code:
        raise RunError(str(trial.folder), error.strip() or f"training ended with code {code}.")
    report: Report = json.loads(out)
    return {name: report[name] for name in COLUMNS if name in report}


# --- a search -------------------------------------------------------------------------------------


def _search(job: _Sweep, axes: Sequence[Axis], count: int, *, seed: int) -> None:
    """Lets Optuna choose settings by what earlier trials reached.

    It is seeded, so a rerun asks for the same trials again, and those that are done stand ready.
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for _ in range(count):
        asked = study.ask()
        loss = _run_trial(job, {axis.key: _suggest(asked, axis) for axis in axes})
        if loss is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, loss)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "optuna") from None
    return optuna


def _suggest(asked: Any, axis: Axis) -> Any:
    if not axis.is_range:
        return asked.suggest_categorical(axis.key, axis.values)
    if axis.is_whole:
        return asked.suggest_int(axis.key, axis.low, axis.high, log=axis.log)
    return asked.suggest_float(axis.key, axis.low, axis.high, log=axis.log)


# --- the table ------------------------------------------------------------------------------------


def _sorted(rows: Iterable[Report]) -> list[Report]:
    def rank(row: Report) -> tuple[bool, float]:
        loss = _loss(row)
        return "failed" in row or loss is None, loss or 0.0

    return sorted(rows, key=rank)


def _loss(row: Report) -> float | None:
    """What a trial is judged by: the validation loss, or the training loss where there is none."""
    loss: float | None = row.get("validation/loss")
    return row.get("train/loss") if loss is None else loss


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
        "best": [f"--set {shlex.quote(option(key, best[key]))}" for key in keys],
        "table": str(job.folder / TABLE_NAME),
    }
