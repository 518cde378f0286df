"""Experiment trackers (train.report_to): each gets every line of metrics.jsonl, names and all.

They write into trackers/ in the run folder and talk to nobody, unless the environment says
otherwise (WANDB_MODE, SWANLAB_MODE, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID). What they are told of a
run is the model and train sections of its recipe; keys are read from the environment by the
trackers alone. A tracker that fails is left out from there on: it is no reason to lose a run.

A run that is resumed goes on under its name, which lies with the checkpoints.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burnish.errors import RecipeError
from burnish.progress import warn
from burnish.run_dir import write_text

PROJECT = "burnish"

_ERRORS = {
    "wandb": "wandb.Error",
    "mlflow": "mlflow.MlflowException",
    "trackio": "sqlite3.Error",
}
"""What they raise besides OSError, as package and name."""

NAME_FILE = "tracker-run"
"""Among the checkpoints: what the trackers call this training run."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """An open tracker.

    Attributes:
        log: takes values by name, and their step.
        close: ends the run in it.
    """

    log: Callable[[Mapping[str, float], int], Any]
    close: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tracker writes, and what it calls the run.

    Attributes:
        folder: its own.
        name: of the run.
        settings: of the recipe.
        is_new: whether the run begins here, and is not taken up again.
    """

    folder: Path
    name: str
    settings: Mapping[str, Any]
    is_new: bool


def check_trackers(names: Sequence[str]) -> None:
    """Checks that the trackers are installed.

    Raises:
        RecipeError: one is not.
    """
    for name in names:
        # TensorBoard's writer also comes in a package of its own.
        packages = ["tensorboard", "tensorboardX"] if name == "tensorboard" else [name]
        if not any(importlib.util.find_spec(package) for package in packages):
            raise RecipeError(
                "train.report_to",
                f"the package of {name} is not installed.",
                f"Install it with: pip install {name}, or take {name} out of the list.",
            )


@contextlib.contextmanager
def open_trackers(
    names: Sequence[str], folder: Path, checkpoints: Path, settings: Mapping[str, Any]
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that takes lines of metrics.jsonl for all of the trackers; closed at the end.

    Args:
        names: as in train.report_to.
        folder: trackers/ of the run.
        checkpoints: where the name of the training run lies.
        settings: what the trackers are told of the run.
    """
    if not names:
        yield lambda line: None
        return
    name, is_new = _name_of(checkpoints, folder.parent.name)
    trackers: dict[str, Tracker] = {}

    def send(line: Mapping[str, float]) -> None:
        step = int(line["step"])
        values = {key: float(value) for key, value in line.items() if key != "step"}
        for kind in list(trackers):
            with _left_out_if_it_fails(kind, trackers):
                trackers[kind].log(values, step)

    try:
        for kind in names:
            with _left_out_if_it_fails(kind, trackers):
                own = folder / kind
                own.mkdir(parents=True, exist_ok=True)
                trackers[kind] = TRACKERS[kind](Place(own, name, settings, is_new))
        yield send
    finally:
        for kind in list(trackers):
            with _left_out_if_it_fails(kind, trackers):
                trackers[kind].close()


@contextlib.contextmanager
def _left_out_if_it_fails(kind: str, trackers: dict[str, Tracker]) -> Iterator[None]:
    """Lets training go on without a tracker; what that says is not shown: it may hold an address.

    What it prints goes to stderr, for stdout is the report's.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except _errors_of(kind) as error:
        warn(f"{kind} failed ({type(error).__name__}) and gets nothing more; training goes on")
        trackers.pop(kind, None)


def _errors_of(kind: str) -> tuple[type[Exception], ...]:
    """What a tracker raises where it can't be reached or written."""
    package, _, name = _ERRORS.get(kind, "").partition(".")
    found = getattr(sys.modules.get(package), name, None)  # it is loaded if it has raised anything
    return (OSError, found) if found else (OSError,)


def _name_of(checkpoints: Path, run_name: str) -> tuple[str, bool]:
    path = checkpoints / NAME_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8"), False
    # Trackers take it as an identifier: some refuse quotes, slashes and colons.
    plain = re.sub(r"[^\w.-]+", "-", run_name)
    name = f"{plain}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    write_text(path, name)
    return name, True


def _tensorboard(place: Place) -> Tracker:
    has_own = importlib.util.find_spec("tensorboard") is not None
    package = "torch.utils.tensorboard" if has_own else "tensorboardX"
    make = importlib.import_module(package).SummaryWriter
    writers: list[Any] = []

    def log(values: Mapping[str, float], step: int) -> None:
        if not writers:
            # What an interrupted run wrote from this step on is no longer so.
            purged = None if place.is_new else step
            writers.append(make(str(place.folder / place.name), purge_step=purged))
        for name, value in values.items():
            writers[0].add_scalar(name, value, step)

    return Tracker(log, lambda: [writer.close() for writer in writers])


def _wandb(place: Place) -> Tracker:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=place.name,
        id=place.name,
        resume="allow",
        dir=str(place.folder),
        mode=os.environ.get("WANDB_MODE", "offline"),
        config=dict(place.settings),
        settings=wandb.Settings(console="off", disable_git=True, save_code=False, silent=True),
    )
    return Tracker(lambda values, step: run.log(dict(values), step=step), run.finish)


def _mlflow(place: Place) -> Tracker:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{place.folder / 'mlflow.db'}")
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    earlier = mlflow.search_runs(
        filter_string=f"attributes.run_name = '{place.name}'", output_format="list"
    )
    if earlier:
        mlflow.start_run(run_id=earlier[0].info.run_id)
    else:
        mlflow.start_run(run_name=place.name)
        mlflow.log_params(_flat(place.settings))
    return Tracker(lambda values, step: mlflow.log_metrics(dict(values), step=step), mlflow.end_run)


def _swanlab(place: Place) -> Tracker:
    import swanlab

    run = swanlab.init(
        project=os.environ.get("SWANLAB_PROJECT", PROJECT),
        experiment_name=place.name,
        id=hashlib.sha256(place.name.encode()).hexdigest()[:21],  # the length that it asks for
        resume="allow",
        logdir=str(place.folder),
        mode=os.environ.get("SWANLAB_MODE", "offline"),
        config=dict(place.settings),
    )
    return Tracker(lambda values, step: run.log(dict(values), step=step), swanlab.finish)


def _trackio(place: Place) -> Tracker:
    os.environ.setdefault("TRACKIO_DIR", str(place.folder))
    import trackio

    trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT),
        name=place.name,
        config=dict(place.settings),
        resume="never" if place.is_new else "allow",
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    return Tracker(lambda values, step: trackio.log(dict(values), step=step), trackio.finish)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings under dotted names, as texts."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = str(value)
    return flat


TRACKERS: dict[str, Callable[[Place], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "swanlab": _swanlab,
    "trackio": _trackio,
}
