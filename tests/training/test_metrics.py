"""metrics.jsonl and loss.png."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from burnish.training.metrics import (
    Reporter,
    peak_memory_gib,
    plot_losses,
    read_metrics,
    rewind_metrics,
)
from burnish.training.trainer import Counters


def state(step=3):
    return SimpleNamespace(global_step=step, epoch=0.123456, max_steps=10)


def test_a_log_event_becomes_a_line_with_burnishs_names(tmp_path, capfd):
    path = tmp_path / "metrics.jsonl"
    reporter = Reporter(path)
    reporter.watch(SimpleNamespace(counters=Counters(200, 50, 0.0, 2.0)))
    reporter.on_log(None, state(), None, {"loss": 1.5, "grad_norm": 2, "learning_rate": 1e-3})
    (line,) = read_metrics(path)
    memory = line.pop("peak_memory_gib")
    assert memory > 0
    assert line == {
        "step": 3,
        "epoch": 0.1235,
        "train/loss": 1.5,
        "grad_norm": 2.0,
        "learning_rate": 1e-3,
        "supervised_tokens": 50,
        "useful_tokens_per_second": 100.0,
    }
    assert "step 3/10: train/loss 1.5000" in capfd.readouterr().err


def test_an_evaluation_is_validation_loss_and_other_logs_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    reporter = Reporter(path)
    reporter.on_log(None, state(), None, {"train_runtime": 1.0})
    assert not path.exists()
    reporter.on_log(None, state(), None, {"eval_loss": 2.0})
    assert read_metrics(path) == [{"step": 3, "epoch": 0.1235, "validation/loss": 2.0}]


def test_an_unfinished_last_line_is_passed_over_and_a_missing_file_is_empty(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text('{"step": 1}\n{"step": 2, "tra')
    assert read_metrics(path) == [{"step": 1}]


def test_rewinding_drops_the_lines_after_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 2, 3)))
    rewind_metrics(path, 2)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 2]
    rewind_metrics(path, 0)
    assert path.read_text() == ""


@pytest.mark.parametrize(
    "metrics", [[], [{"step": 1, "train/loss": 2.0}, {"step": 1, "validation/loss": 2.5}]]
)
def test_the_losses_are_drawn_as_a_png(tmp_path, metrics):
    plot_losses(metrics, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_peak_memory_is_in_gibibytes():
    assert 0.05 < peak_memory_gib() < 64
