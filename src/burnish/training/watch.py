"""`burnish watch`: the curves of a training run in the terminal, from the lines that it writes.

Watching only reads, so it may begin before the run, beside it or after it, and holds up nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from burnish.run_dir import RunDir
from burnish.training.curves import draw_curves
from burnish.training.journal import HEALTH_NAME, METRICS_NAME, SAMPLES_NAME, Follower

SECONDS = 1.0
"""Between two looks."""

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """What a run has written so far.

    Attributes:
        metrics: lines of metrics.jsonl.
        health: lines of health.jsonl.
        samples: lines of samples.jsonl.
        age: seconds since the last line of metrics; None without any.
        end: how the run ended, in words; empty while it may go on.
    """

    metrics: Lines
    health: Lines
    samples: Lines
    age: float | None
    end: str


def watch(run: RunDir, console: Console, *, once: bool) -> None:
    """Draws the run anew every second until it ends or Ctrl-C; `once` draws a single picture."""
    looker = _Looker(run)
    if once or not console.is_terminal:
        console.print(picture(run.path.name, looker.look(), console.width, console.height))
        return
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                seen = looker.look()
                shown = picture(run.path.name, seen, console.width, console.height - 1)
                live.update(shown, refresh=True)
                if seen.end:
                    return
                time.sleep(SECONDS)
    except KeyboardInterrupt:
        return


class _Looker:
    def __init__(self, run: RunDir) -> None:
        folder = run.folder("train")
        self._run = run
        self._metrics = Follower(folder / METRICS_NAME)
        self._health = Follower(folder / HEALTH_NAME)
        self._samples = Follower(folder / SAMPLES_NAME)

    def look(self) -> Look:
        # First the end, then the lines: so none is missing from the last picture.
        entry = self._run.read_manifest()["stages"].get("train")
        health = self._health.look()
        end = f"finished {entry['finished']}" if entry else ""
        if health and health[-1].get("stopped"):
            end = f"stopped at step {health[-1]['step']}: {health[-1]['fault']}"
        metrics = self._metrics.look()
        age = self._metrics.age() if metrics else None
        return Look(metrics, health, self._samples.look(), age, end)


def picture(name: str, seen: Look, width: int, height: int) -> RenderableType:
    """Loss on top, learning rate and speed below it, and a few words around them."""
    notes = _notes(seen)
    room = max(height - 2 - len(notes) - 4, 8)  # two lines of words, and two rows of names and axes
    tall = room * 3 // 5
    losses = draw_curves(_curves(seen.metrics, "train/loss", "validation/loss"), width, tall)
    below = Table.grid(expand=True)
    half = width // 2
    below.add_row(
        draw_curves(_curves(seen.metrics, "learning_rate"), half, room - tall),
        draw_curves(_curves(seen.metrics, "useful_tokens_per_second"), half, room - tall),
    )
    return Group(_headline(name, seen), losses, below, *notes)


def _curves(metrics: Lines, *names: str) -> dict[str, list[tuple[float, float]]]:
    return {name: [(m["step"], m[name]) for m in metrics if name in m] for name in names}


def _headline(name: str, seen: Look) -> Text:
    text = Text(name, style="bold", no_wrap=True, overflow="ellipsis")
    if not seen.metrics:
        return text.append(": no line of metrics yet", style="not bold")
    last: dict[str, Any] = {}
    for line in seen.metrics:
        last |= line
    parts = [f"step {last['step']}", f"epoch {last.get('epoch', 0):.2f}"]
    if "mfu" in last:
        parts.append(f"{last['mfu']:.0%} of the limit")
    if "peak_memory_gib" in last:
        parts.append(f"{last['peak_memory_gib']:.2f} GiB")
    parts.append(seen.end or f"last line {seen.age or 0:,.0f} s ago")
    return text.append(": " + ", ".join(parts), style="not bold")


def _notes(seen: Look) -> list[Text]:
    """The last event of health and the last answer, if there are any."""
    notes = []
    if seen.health:
        event = seen.health[-1]
        what = event.get("fault") or f"the loss jumped to {event.get('loss', 0):.4f}"
        rows = ", ".join(event.get("rows", [])[:3])
        notes.append(f"step {event['step']}: {what} ({rows}, …)")
    if seen.samples:
        sample = seen.samples[-1]
        answer = " ".join(str(sample.get("answer", "")).split())
        notes.append(f"answer at step {sample['step']} to {sample.get('origin')}: {answer}")
    return [Text(note, no_wrap=True, overflow="ellipsis") for note in notes]
