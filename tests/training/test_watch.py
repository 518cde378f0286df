"""`burnish watch`: a picture of what a run has written, and when the watch ends."""

from __future__ import annotations

import io
import json
import threading
import time

import pytest
from rich.console import Console

from burnish.run_dir import RunDir
from burnish.training import watch as module
from burnish.training.journal import append_line
from burnish.training.watch import watch


def line(step, loss):
    return {
        "step": step,
        "epoch": step / 10,
        "train/loss": loss,
        "learning_rate": 1e-4,
        "useful_tokens_per_second": 120.0,
        "mfu": 0.78,
        "peak_memory_gib": 2.5,
    }


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "medical")
    run.path.mkdir()
    return run


def seen(run, *, once=True, terminal=False, width=100, height=40):
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=terminal)
    watch(run, console, once=once)
    return out.getvalue()


def finish(run):
    entry = {"key": "k", "outputs": {}, "finished": "2026-01-31T10:00:00+00:00"}
    (run.path / "manifest.json").write_text(json.dumps({"stages": {"train": entry}}))


def test_before_anything_is_written_it_says_so(run):
    shown = seen(run)
    assert "medical: no line of metrics yet" in shown
    assert "no values yet" in shown


def test_a_picture_shows_loss_learning_rate_and_speed(run):
    for step in (1, 2, 3):
        append_line(run.folder("train") / "metrics.jsonl", line(step, 3.0 - step / 2))
    append_line(run.folder("train") / "metrics.jsonl", {"step": 3, "validation/loss": 1.75})
    shown = seen(run)
    assert "medical: step 3, epoch 0.30, 78% of the limit, 2.50 GiB, last line 0 s ago" in shown
    assert "train/loss 1.5  validation/loss 1.75" in shown
    assert "learning_rate 1.0e-04" in shown
    assert "useful_tokens_per_second 120" in shown
    rows = shown.splitlines()
    assert len(rows) <= 40
    assert max(map(len, rows)) <= 100


def test_a_half_written_line_is_left_for_the_next_look(run):
    append_line(run.folder("train") / "metrics.jsonl", line(1, 2.0))
    with (run.folder("train") / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/lo')
    assert "medical: step 1," in seen(run)


def test_the_last_event_and_the_last_answer_are_shown(run):
    folder = run.folder("train")
    append_line(folder / "metrics.jsonl", line(1, 2.0))
    spike = {"step": 9, "event": "loss_spike", "loss": 7.5, "rows": ["a.csv:3", "a.csv:4"]}
    append_line(folder / "health.jsonl", spike)
    sample = {"step": 8, "origin": "a.csv:7", "answer": "Drink\nwater."}
    append_line(folder / "samples.jsonl", sample)
    shown = seen(run)
    assert "step 9: the loss jumped to 7.5000 (a.csv:3, a.csv:4" in shown
    assert "answer at step 8 to a.csv:7: Drink water." in shown


def test_a_finished_run_is_drawn_once_and_the_watch_ends(run):
    append_line(run.folder("train") / "metrics.jsonl", line(5, 2.0))
    finish(run)
    shown = seen(run, once=False, terminal=True)
    assert "finished 2026-01-31T10:00:00+00:00" in shown


def test_a_run_that_stopped_by_itself_ends_the_watch_and_says_why(run):
    append_line(run.folder("train") / "metrics.jsonl", line(5, 2.0))
    stop = {"step": 6, "event": "bad_step", "fault": "the loss is nan", "stopped": True, "rows": []}
    append_line(run.folder("train") / "health.jsonl", stop)
    assert "stopped at step 6: the loss is nan" in seen(run, once=False, terminal=True)


def test_the_picture_follows_a_run_that_goes_on(run, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.02)

    def train():
        for step in (1, 2, 3):
            time.sleep(0.1)
            append_line(run.folder("train") / "metrics.jsonl", line(step, 3.0 - step))
        finish(run)

    other = threading.Thread(target=train)
    other.start()
    shown = seen(run, once=False, terminal=True)
    other.join()
    assert "no line of metrics yet" in shown
    assert "step 3," in shown
    assert "finished" in shown


def test_ctrl_c_ends_the_watch_and_nothing_else(run, monkeypatch):
    def press(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", press)
    assert "no line of metrics yet" in seen(run, once=False, terminal=True)


def test_what_is_no_terminal_gets_one_picture(run):
    assert seen(run, once=False, terminal=False).count("medical") == 1
