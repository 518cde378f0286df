"""What a training run reports while it goes: a bar or lines, metrics.jsonl, and loss.png."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from burnish.progress import say, stderr
from burnish.run_dir import write_jsonl
from burnish.training.trainer import BurnishTrainer

METRICS_NAME = "metrics.jsonl"

_NAMES = {"loss": "train/loss", "eval_loss": "validation/loss"}
_KEPT = ("grad_norm", "learning_rate")


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Writes metrics.jsonl, one object a log event, and shows progress on stderr."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trainer: BurnishTrainer | None = None
        self._bar: Progress | None = None
        self._task: Any = None
        self._started = 0.0
        self._first_step = 0

    def watch(self, trainer: BurnishTrainer) -> None:
        """Names the trainer whose counters are reported."""
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the bar."""
        self._started, self._first_step = time.monotonic(), state.global_step
        if stderr.is_terminal:
            columns = (
                TextColumn("train"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=stderr)
            self._task = self._bar.add_task("train", total=state.max_steps, speed="")
            self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Moves the bar."""
        if self._bar is not None:
            speed = f"{self._tokens_per_second():,.0f} tokens/s"
            self._bar.update(self._task, completed=state.global_step, speed=speed)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Appends a line to metrics.jsonl and says the loss."""
        values = {_NAMES[k]: v for k, v in (logs or {}).items() if k in _NAMES}
        if not values:
            return
        values |= {k: float(logs[k]) for k in _KEPT if k in logs}
        line = {"step": state.global_step, "epoch": round(state.epoch or 0, 4), **values}
        if self._trainer is not None:
            line["supervised_tokens"] = self._trainer.counters.supervised_tokens
            line["useful_tokens_per_second"] = round(self._tokens_per_second(), 1)
            line["peak_memory_gib"] = round(peak_memory_gib(), 3)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        losses = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if "/" in name)
        say(f"step {state.global_step}/{state.max_steps}: {losses}{self._eta(state)}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends the bar."""
        self.close()

    def close(self) -> None:
        """Takes the bar off the terminal, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _tokens_per_second(self) -> float:
        if self._trainer is None or not self._trainer.counters.seconds:
            return 0.0
        return self._trainer.counters.tokens / self._trainer.counters.seconds

    def _eta(self, state: Any) -> str:
        done = state.global_step - self._first_step
        if not done or self._bar is not None:
            return ""
        left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        return f", {self._tokens_per_second():,.0f} tokens/s, {left:,.0f} s left"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a line that a crash left unfinished is passed over."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def rewind_metrics(path: Path, step: int) -> None:
    """Drops the lines after a step, before a run is resumed from there."""
    write_jsonl(path, [line for line in read_metrics(path) if line["step"] <= step])


def peak_memory_gib() -> float:
    """The most memory that was in use: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**30 if sys.platform == "darwin" else 2**20)


def plot_losses(metrics: list[dict[str, Any]], path: Path) -> None:
    """Draws training and validation loss over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, style in (("train/loss", "-"), ("validation/loss", "o-")):
        points = [(line["step"], line[name]) for line in metrics if name in line]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=name, markersize=4)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per supervised token)")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(path, dpi=120)
