"""Small runs for the tests of several processes: a recipe whose data are prepared, and curves."""

from __future__ import annotations

import shutil
from pathlib import Path

from burnish.run_dir import RunDir
from burnish.training.journal import METRICS_NAME, read_lines
from burnish.training.launch.launching import launch
from burnish.training.launch.options import Launch, checked
from burnish.training.train import train
from tests.training.test_train import prepared

STEPS = {
    "lora": {"r": 2},
    "gradient_checkpointing": False,  # `auto` would go by the machine
    "learning_rate": 2e-3,  # at 1e-2 roundings grow: two backends in one process differ by 8e-5
    "num_train_epochs": 8,
    "max_steps": 30,
    "eval_strategy": "steps",
    "eval_steps": 10,
    "save_strategy": "steps",
    "save_steps": 10,
    "save_total_limit": 10,
}
"""30 steps of 8 records, every fourth of one: 25 rows to train on."""


def ready(folder: Path, model: Path, **settings: object):
    """A recipe of 30 steps, with its data prepared."""
    return prepared(folder, model, STEPS | settings)


def alone(loaded):
    """Trains in this process."""
    run = RunDir(loaded.run_dir)
    return train(loaded.recipe.model, loaded.recipe.train, run), run


def together(loaded, how: Launch):
    """Trains in several processes."""
    run, model, section = RunDir(loaded.run_dir), loaded.recipe.model, loaded.recipe.train
    return launch(model, section, run, how=checked(how, model, section)), run


def curve(run: RunDir) -> list[float]:
    """The losses and the norms of the gradients, in order.

    The norms tell a mean from a sum over processes, to which Adam is blind.
    """
    lines = read_lines(run.folder("train") / METRICS_NAME)
    names = ("train/loss", "grad_norm", "validation/loss")
    return [line[name] for line in lines for name in names if name in line]


def back_to(run: RunDir, step: int) -> None:
    """Takes away what a run saved after a step, as if it had been cut there."""
    shutil.rmtree(run.adapter)
    for folder in run.checkpoints.glob("checkpoint-*"):
        if int(folder.name.rpartition("-")[2]) > step:
            shutil.rmtree(folder)
