"""metrics.jsonl and loss.png."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from burnish.planning.work import Layer, Work
from burnish.training import metrics
from burnish.training.journal import read_lines
from burnish.training.limit import Limit
from burnish.training.metrics import Reporter, peak_memory_gib, plot_losses
from burnish.training.saving import Counters


def state(step=3):
    return SimpleNamespace(global_step=step, epoch=0.123456, max_steps=10)


def reporter_of(path, counters, ranks=1):
    reporter = Reporter(path)
    trainer = SimpleNamespace(counters=counters, args=SimpleNamespace(world_size=ranks))
    reporter.watch(trainer)
    return reporter


def test_a_log_event_becomes_a_line_with_burnishs_names(tmp_path, capfd):
    path = tmp_path / "metrics.jsonl"
    counters = Counters(tokens=200, supervised_tokens=50, seconds=2.0)
    reporter = reporter_of(path, counters)
    reporter.on_log(None, state(), None, {"loss": 1.5, "grad_norm": 2, "learning_rate": 1e-3})
    (line,) = read_lines(path)
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


def test_the_speed_of_a_line_is_that_since_the_line_before(tmp_path):
    path = tmp_path / "metrics.jsonl"
    counters = Counters(tokens=200, seconds=2.0)
    reporter = reporter_of(path, counters)
    reporter.on_log(None, state(3), None, {"loss": 1.5})
    reporter.on_log(None, state(3), None, {"eval_loss": 1.5})
    counters.tokens, counters.seconds, counters.skipped = 500, 3.0, 2
    reporter.on_log(None, state(6), None, {"loss": 1.4})
    first, evaluation, second = read_lines(path)
    assert first["useful_tokens_per_second"] == 100.0
    assert "useful_tokens_per_second" not in evaluation
    assert second["useful_tokens_per_second"] == 300.0
    assert ("skipped_steps" in first, second["skipped_steps"]) == (False, 2)


def test_a_resumed_run_does_not_count_the_speed_of_what_came_before(tmp_path):
    path = tmp_path / "metrics.jsonl"
    counters = Counters(tokens=1000, seconds=1.0)
    reporter = reporter_of(path, counters)
    reporter.on_train_begin(None, state(3), None)
    counters.tokens, counters.seconds = 1100, 2.0
    reporter.on_log(None, state(6), None, {"loss": 1.4})
    assert read_lines(path)[0]["useful_tokens_per_second"] == 100.0


@pytest.mark.parametrize("ranks, share", [(1, 0.5), (2, 0.25)])
def test_a_line_and_the_end_say_what_share_of_the_limit_was_reached(tmp_path, capfd, ranks, share):
    path = tmp_path / "metrics.jsonl"
    reporter = reporter_of(path, Counters(tokens=100, seconds=2.0, cpu_seconds=4.0), ranks)
    # 100 tokens x 2 x 2 x 100 = 40,000 FLOPs in 4 seconds of the processor, of 20,000 a second.
    work = Work((Layer(10, 10, 1.0),), attention_width=0)
    reporter.limit = Limit(work, 20_000.0, "20,000 FLOP a second", is_cpu=True)
    reporter.on_log(None, state(), None, {"loss": 1.5})
    assert read_lines(path)[0]["mfu"] == reporter.mfu() == share
    reporter.on_train_end(None, state(), None)
    said = f"{share:.0%} of what matrix products alone would allow: 20,000 FLOP a second"
    assert said in capfd.readouterr().err


def test_without_a_limit_no_share_is_said(tmp_path, capfd):
    reporter = reporter_of(tmp_path / "metrics.jsonl", Counters())
    reporter.on_train_end(None, state(), None)
    assert reporter.mfu() is None
    assert capfd.readouterr().err == ""


def test_an_evaluation_is_validation_loss_and_other_logs_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    reporter = Reporter(path)
    reporter.on_log(None, state(), None, {"train_runtime": 1.0})
    assert not path.exists()
    reporter.on_log(None, state(), None, {"eval_loss": 2.0})
    assert read_lines(path) == [{"step": 3, "epoch": 0.1235, "validation/loss": 2.0}]


def test_listeners_get_each_line_as_it_is_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    reporter = reporter_of(path, Counters(tokens=200, seconds=2.0))
    heard = []
    reporter.listeners.append(heard.append)
    reporter.on_log(None, state(), None, {"loss": 1.5})
    assert heard == read_lines(path)


def test_the_losses_are_drawn_at_evaluations_but_not_all_the_time(tmp_path, monkeypatch):
    reporter = reporter_of(tmp_path / "metrics.jsonl", Counters())
    drawn = []
    monkeypatch.setattr(metrics, "plot_losses", lambda lines, path: drawn.append(path.name))
    now = [100.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    reporter.on_train_begin(None, state(0), None)
    for moment in (105.0, 110.0, 112.0, 119.0, 120.0):
        now[0] = moment
        reporter.on_evaluate(None, state(), None)
    assert drawn == ["loss.png"] * 2  # at 110 and at 120


@pytest.mark.parametrize(
    "lines", [[], [{"step": 1, "train/loss": 2.0}, {"step": 1, "validation/loss": 2.5}]]
)
def test_the_losses_are_drawn_as_a_png(tmp_path, lines):
    plot_losses(lines, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["loss.png"]


def test_peak_memory_is_in_gibibytes():
    assert 0.05 < peak_memory_gib() < 64
