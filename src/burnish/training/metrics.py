"""What a training run reports while it goes: a bar or lines, metrics.jsonl, and loss.png."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from burnish.progress import say, stderr
from burnish.training.journal import append_line, read_lines
from burnish.training.limit import Limit
from burnish.training.saving import Counters

if TYPE_CHECKING:
    from burnish.training.trainer import BurnishTrainer

PLOT_NAME = "loss.png"

SECONDS_BETWEEN_PLOTS = 10.0
"""Evaluations that follow one another faster are drawn at the end only."""

Listener = Callable[[Mapping[str, float]], None]
"""Takes every line of metrics.jsonl as it is written."""

_NAMES = {"loss": "train/loss", "eval_loss": "validation/loss"}
_KEPT = ("grad_norm", "learning_rate")


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Writes metrics.jsonl, one object a log event, and shows progress on stderr.

    Of several ranks the first one alone has it.

    Args:
        path: metrics.jsonl; loss.png is drawn beside it.
    """

    def __init__(self, path: Path) -> None:
        self.limit: Limit | None = None
        self.listeners: list[Listener] = []
        self._path = path
        self._trainer: BurnishTrainer | None = None
        self._bar: Progress | None = None
        self._task: Any = None
        self._started = 0.0
        self._first_step = 0
        self._last = Counters()
        self._drawn = 0.0

    def watch(self, trainer: BurnishTrainer) -> None:
        """Names the trainer whose counters are reported."""
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the bar."""
        self._started, self._first_step = time.monotonic(), state.global_step
        self._drawn = self._started
        if self._trainer is not None:
            self._last = copy.copy(self._trainer.counters)
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
        line |= self._measured(is_train="train/loss" in values)
        append_line(self._path, line)
        for listener in self.listeners:
            listener(line)
        losses = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if "/" in name)
        say(f"step {state.global_step}/{state.max_steps}: {losses}{self._eta(state)}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draws loss.png anew, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._drawn >= SECONDS_BETWEEN_PLOTS:
            plot_losses(read_lines(self._path), self._path.with_name(PLOT_NAME))
            self._drawn = now

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends the bar, and says how near to the limit it was."""
        self.close()
        reached = self.mfu()
        if reached is not None and self.limit is not None:
            say(f"{reached:.0%} of what matrix products alone would allow: {self.limit.source}")

    def close(self) -> None:
        """Takes the bar off the terminal, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def mfu(self) -> float | None:
        """The share of the limit that all steps together reached; None where there is no limit."""
        return self._share(Counters())

    def _measured(self, *, is_train: bool) -> dict[str, float]:
        """Of a line about training, what was measured since the last one."""
        if self._trainer is None:
            return {}
        counters = self._trainer.counters
        line: dict[str, float] = {"supervised_tokens": counters.supervised_tokens}
        if is_train:
            tokens = counters.tokens - self._last.tokens
            seconds = counters.seconds - self._last.seconds
            line["useful_tokens_per_second"] = round(tokens / max(seconds, 1e-9), 1)
            share = self._share(self._last)
            if share is not None:
                line["mfu"] = round(share, 4)
            if counters.skipped:
                line["skipped_steps"] = counters.skipped
            self._last = copy.copy(counters)
        line["peak_memory_gib"] = round(peak_memory_gib(), 3)
        return line

    def _share(self, before: Counters) -> float | None:
        """The share of the limit that was reached since the counters stood like this."""
        if self.limit is None or self._trainer is None:
            return None
        now, ranks = self._trainer.counters, self._trainer.args.world_size
        return self.limit.reached(
            tokens=(now.tokens - before.tokens) / ranks,
            supervised=(now.supervised_tokens - before.supervised_tokens) / ranks,
            pairs=(now.pairs - before.pairs) / ranks,
            seconds=now.seconds - before.seconds,
            cpu=now.cpu_seconds - before.cpu_seconds,
        )

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


def peak_memory_gib() -> float:
    """The most memory that was in use: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**30 if sys.platform == "darwin" else 2**20)


def plot_losses(metrics: list[dict[str, Any]], path: Path) -> None:
    """Draws training and validation loss over the steps; the picture appears whole."""
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
    beside = path.with_name(f".{path.name}")
    figure.savefig(beside, dpi=120, format="png")
    beside.replace(path)
