"""Several processes give the curve of one, whatever starts them, and end together with one word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from burnish.errors import TrainingError
from burnish.pipeline import run_stage
from burnish.run_dir import RunDir
from burnish.training.launch import launching
from burnish.training.launch.job import Note
from burnish.training.launch.options import Launch
from tests.training.launch.runs import alone, back_to, curve, ready, together

TWO = Launch("torchrun", processes=2, strategy="ddp")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def weights(run):
    return load_file(run.adapter / WEIGHTS)


# --- one message ------------------------------------------------------------------------------

NAN = ("step 3", "the loss is nan.", "Lower it.")


@pytest.mark.parametrize(
    "notes, said",
    [
        ([Note(1, 2.0, error=NAN), Note(0, 2.1, error=NAN)], "step 3: the loss is nan."),
        ([Note(1, 2.0, error=NAN), Note(0, 2.1, is_lost=True)], "rank 1 of 2, step 3: the loss"),
        ([Note(1, 2.0, error=NAN)], "rank 1 of 2, step 3: the loss"),
        ([Note(0, 2.0, is_lost=True)], "rank 1 of 2: it ended without a word"),
        ([], "rank 0, 1 of 2: it ended without a word: torchrun could not start it"),
        ([Note(0, 2.0, is_lost=True), Note(1, 2.0, is_lost=True)], "node 0: the connection to"),
    ],
)
def test_what_ranks_noted_becomes_one_message(notes, said):
    with pytest.raises(TrainingError) as caught:
        launching._outcome(TWO, notes)
    assert str(caught.value).startswith(said)


def test_where_the_ranks_of_one_machine_lose_one_another_no_other_is_blamed():
    lost = [Note(n, 2.0, is_lost=True, said="NCCL error: invalid usage") for n in (0, 1)]
    with pytest.raises(TrainingError, match="the other ranks was lost: NCCL error: invalid"):
        launching._outcome(TWO, lost)
    far = replace(TWO, processes=4, nodes=2)
    with pytest.raises(TrainingError, match="another node was lost: NCCL error: invalid usage"):
        launching._outcome(far, lost)


def test_the_first_error_is_the_one_that_is_told():
    late = ("x", "another.", "")
    notes = [Note(1, 2.0, error=NAN), Note(0, 3.0, error=late)]
    with pytest.raises(TrainingError, match="rank 1 of 2, step 3"):
        launching._outcome(TWO, notes)


def test_ranks_that_were_stopped_end_this_process_with_their_code():
    with pytest.raises(SystemExit) as ended:
        launching._outcome(TWO, [Note(0, 1.0, exit_code=75), Note(1, 1.0, exit_code=75)])
    assert ended.value.code == 75


# --- the same curve ---------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_give_the_curve_and_the_adapter_of_one(tmp_path, tiny_model, capfd):
    one, whole = alone(ready(tmp_path / "one", tiny_model))
    expected = curve(whole)
    assert len(expected) == 2 * 30 + 3
    capfd.readouterr()
    report, run = together(ready(tmp_path / "two", tiny_model), TWO)
    assert curve(run) == pytest.approx(expected, abs=1e-4)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], weight, rtol=0, atol=1e-3)
    assert (report.steps, report.supervised_tokens) == (30, one.supervised_tokens)
    assert report.best_step == one.best_step
    assert not list(run.path.glob(".launch*"))
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("going through") + said.err.count("rows go through") == 1
    assert said.err.count("step 30/30: train/loss") == 1
    assert "Traceback" not in said.err
    assert "Warning" not in said.err


@pytest.mark.slow
def test_accelerate_gives_the_curve_too(tmp_path, tiny_model):
    _, whole = alone(ready(tmp_path / "one", tiny_model))
    _, run = together(ready(tmp_path / "two", tiny_model), Launch("accelerate", processes=2))
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_goes_on_in_one_and_back(tmp_path, tiny_model, capfd):
    _, whole = alone(ready(tmp_path / "whole", tiny_model))
    loaded = ready(tmp_path / "cut", tiny_model)
    _, run = together(loaded, TWO)
    back_to(run, 10)
    capfd.readouterr()
    alone(loaded)
    assert "going on from checkpoint-10" in capfd.readouterr().err
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
    back_to(run, 20)
    together(loaded, TWO)
    assert "going on from checkpoint-20" in capfd.readouterr().err
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], weight, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_the_manifest_is_written_once_and_knows_nothing_of_processes(tmp_path, tiny_model):
    from functools import partial

    loaded = ready(tmp_path / "run", tiny_model, max_steps=2, eval_steps=2, save_steps=2)
    work = partial(launching.launch, how=TWO)
    report = run_stage("train", loaded, work=work)
    assert report["steps"] == 2
    entry = RunDir(loaded.run_dir).read_manifest()["stages"]["train"]
    assert not any("launch" in name for name in entry["outputs"])
    assert run_stage("train", loaded) == report  # unchanged, so not run again


# --- the end of one is the end of all -----------------------------------------------------------


@pytest.mark.slow
def test_a_nan_on_one_rank_stops_all_before_the_update(tmp_path, tiny_model, monkeypatch):
    loaded = ready(tmp_path / "run", tiny_model)
    site = tmp_path / "site"
    site.mkdir()
    # Ranks are processes of their own: this changes the loss of the second one from step 13 on.
    (site / "sitecustomize.py").write_text(NAN_AT_13, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    with pytest.raises(TrainingError, match="step 13: the loss is nan; nothing was updated"):
        together(loaded, TWO)
    run = RunDir(loaded.run_dir)
    (saved,) = run.checkpoints.glob("checkpoint-*")
    assert saved.name == "checkpoint-10"
    assert all(torch.isfinite(w).all() for w in load_file(saved / WEIGHTS).values())


NAN_AT_13 = """
import os, sys
if os.environ.get("RANK") == "1" and "burnish.training.launch.rank" in sys.orig_argv:
    import burnish.training.accumulation as module
    original, seen = module.Accumulation.backward, []
    def backward(self, records, **rest):
        seen.append(1)
        return original(self, records, **rest) * (float("nan") if len(seen) == 13 else 1.0)
    module.Accumulation.backward = backward
"""

DIES_AT_13 = """
import os, sys
if os.environ.get("RANK") == "1" and "burnish.training.launch.rank" in sys.orig_argv:
    import burnish.training.accumulation as module
    original, seen = module.Accumulation.backward, []
    def backward(self, records, **rest):
        seen.append(1)
        if len(seen) == 13:
            {how}
        return original(self, records, **rest)
    module.Accumulation.backward = backward
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, said",
    [
        ("os.kill(os.getpid(), 9)", "rank 1 of 2: it ended without a word"),
        ("raise MemoryError", "rank 1 of 2, step 13: memory ran out"),
    ],
)
def test_the_end_of_one_rank_is_told_by_its_number(tmp_path, tiny_model, monkeypatch, how, said):
    loaded = ready(tmp_path / "run", tiny_model)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DIES_AT_13.format(how=how), encoding="utf-8")
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        with pytest.raises(TrainingError, match=said):
            together(loaded, TWO)
    assert time.monotonic() - began < 120
    report, _ = together(loaded, TWO)
    assert report.steps == 30


@pytest.mark.slow
def test_a_signal_to_the_launching_process_saves_and_a_rerun_goes_on(tmp_path, tiny_model, capfd):
    loaded = ready(tmp_path / "run", tiny_model, max_steps=2000, num_train_epochs=500)
    recipe = tmp_path / "run" / "recipe.yaml"
    settings = json.dumps(loaded.recipe.train.model_dump(mode="json"))
    command = [sys.executable, "-m", "burnish", "train", str(recipe), "--set", f"train={settings}"]
    running = subprocess.Popen(
        [*command, "--launch", "torchrun", "--processes", "2"], stderr=subprocess.PIPE, text=True
    )
    for line in running.stderr:
        if line.startswith("step 12/"):
            break
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 75
    saved = sorted(RunDir(loaded.run_dir).checkpoints.glob("checkpoint-*"))
    assert len(saved) >= 2


@pytest.mark.slow
def test_two_nodes_find_one_another(tmp_path, tiny_model):
    import socket
    import threading

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    loaded = ready(tmp_path / "two", tiny_model)
    _, whole = alone(ready(tmp_path / "one", tiny_model))
    recipe, run = loaded.recipe, RunDir(loaded.run_dir)
    first = replace(TWO, nodes=2, address=address)
    second = replace(first, node=1)
    other = threading.Thread(
        target=launching.join, args=(recipe.model, recipe.train, run), kwargs={"how": second}
    )
    other.start()
    together(loaded, first)
    other.join(60)
    assert not other.is_alive()
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
