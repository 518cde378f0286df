"""Stopping: the first signal asks, a later one ends, and an evaluation is left at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from burnish.run_dir import RunDir
from burnish.training import stopping
from burnish.training.checkpoint import checkpoints
from burnish.training.stopping import LeftHalfway, StopRequest
from tests.training.test_train import prepared

LAST = {"eval_strategy": "no", "load_best_model_at_end": False, "logging_steps": 1}


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    return now


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_only_asks(number, capfd):
    stop = StopRequest()
    with stop.listening():
        assert not stop.is_agreed()
        send(number)
        assert stop.is_agreed()
    assert capfd.readouterr().err == (
        "stopping: this step is finished and saved first; the same again stops at once\n"
    )


def test_the_same_signal_again_within_two_seconds_is_still_the_first(clock):
    stop = StopRequest()
    with stop.listening():
        send(signal.SIGTERM)
        clock[0] += 1.9
        send(signal.SIGTERM)
        assert stop.is_asked


def test_sigterm_after_that_ends_at_once_with_143(clock):
    with StopRequest().listening():
        send(signal.SIGTERM)
        clock[0] += 2.0
        with pytest.raises(SystemExit) as ended:
            send(signal.SIGTERM)
    assert ended.value.code == 143


def test_a_second_ctrl_c_ends_at_once_with_130(clock):
    with StopRequest().listening():
        send(signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            send(signal.SIGINT)
    assert ended.value.code == 130


def test_under_a_launcher_ctrl_c_may_come_twice_for_once(clock, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with StopRequest().listening():
        send(signal.SIGINT)
        clock[0] += 1.0
        send(signal.SIGINT)
        clock[0] += 1.0
        with pytest.raises(SystemExit):
            send(signal.SIGINT)


def test_only_the_first_rank_says_so(monkeypatch, capfd):
    monkeypatch.setenv("RANK", "1")
    with StopRequest().listening():
        send(signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_afterwards_signals_do_what_they_did_before():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    with stop.listening():
        assert signal.getsignal(signal.SIGTERM) == stop._hear
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.listening():
            send(signal.SIGINT)
        assert not stop.is_asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_that_cannot_listen_trains_all_the_same():
    ran = []

    def work():
        with StopRequest().listening():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]


def test_work_that_changes_nothing_is_left_when_the_signal_comes():
    stop, done = StopRequest(), []

    def work():
        with stop.leaving():
            send(signal.SIGTERM)
            done.append(True)

    with stop.listening(), pytest.raises(LeftHalfway):
        work()
    assert (stop.is_asked, done) == (True, [])


def test_work_is_not_begun_when_the_signal_was_there_before():
    stop = StopRequest()
    stop.ask()
    with pytest.raises(LeftHalfway), stop.leaving():
        pytest.fail("it was begun")


def test_work_of_several_processes_is_not_left():
    stop = StopRequest()
    with stop.listening(), stop.leaving(is_allowed=False):
        send(signal.SIGTERM)
    assert stop.is_asked


def test_outside_such_work_nothing_is_raised():
    stop = StopRequest()
    with stop.listening():
        with stop.leaving():
            pass
        send(signal.SIGTERM)
    assert stop.is_asked


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_trains_saves_and_ends_with_75_and_goes_on(tmp_path, tiny_model, number):
    loaded = prepared(tmp_path, tiny_model, {"max_steps": 400, "save_strategy": "no", **LAST})
    overrides = [f"train={json.dumps(loaded.recipe.train.model_dump(mode='json'))}"]
    command = [sys.executable, "-m", "burnish", "train", str(tmp_path / "recipe.yaml")]
    command += [part for override in overrides for part in ("--set", override)]
    run = RunDir(loaded.run_dir)
    journal = run.folder("train") / "metrics.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as work:
        deadline = time.monotonic() + 120
        while not (journal.is_file() and journal.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        work.send_signal(number)
        _, said = work.communicate(timeout=60)
    assert work.returncode == 75, said
    assert "stopping: this step is finished and saved first" in said
    assert "which is saved; run it again to go on" in said
    assert "Traceback" not in said
    (saved,) = checkpoints(run.checkpoints)
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0
    assert f"going on from {saved.name}" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_ctrl_c_twice_before_the_first_step_is_one_line_and_130(tmp_path, tiny_model, seconds):
    loaded = prepared(tmp_path, tiny_model, {"max_steps": 400, "save_strategy": "no", **LAST})
    command = [sys.executable, "-m", "burnish", "train", str(tmp_path / "recipe.yaml")]
    command += ["--set", f"train={json.dumps(loaded.recipe.train.model_dump(mode='json'))}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as work:
        assert work.stderr is not None
        while not work.stderr.readline().startswith("train: "):
            assert work.poll() is None
        work.send_signal(signal.SIGINT)
        time.sleep(seconds)
        work.send_signal(signal.SIGINT)
        _, said = work.communicate(timeout=60)
    assert work.returncode == 130
    assert said.endswith("stopped: what is finished stays, and a rerun goes on from there\n")
    assert "Traceback" not in said
