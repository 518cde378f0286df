"""Ranks as workers of Ray Train: the curve of one process, also when a worker is killed."""

from __future__ import annotations

import os

import pytest

from burnish.errors import MissingExtraError, TrainingError
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir
from burnish.training.launch import on_ray
from burnish.training.launch.job import Job
from burnish.training.launch.options import Launch
from tests.training.launch.runs import alone, curve, ready, together

TWO = Launch("ray", processes=2)


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    job = Job(ModelSection(), TrainSection(), tmp_path, tmp_path, tmp_path)
    with pytest.raises(MissingExtraError, match=r"burnish\[ray\]"):
        on_ray.train_on_ray(TWO, job)


def test_a_rank_that_fails_fails_its_worker(tmp_path, monkeypatch):
    job = Job(ModelSection(), TrainSection(), tmp_path / "run", tmp_path, tmp_path / "job")
    job.write()
    given = []

    def run_rank(told):
        given.append(told)
        return 2 * (len(given) > 1)

    monkeypatch.setattr("burnish.training.launch.rank.run_rank", run_rank)
    on_ray._work({"job": str(job.path)})
    with pytest.raises(on_ray.RankFailed):
        on_ray._work({"job": str(job.path)})
    assert given == [job, job]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_two_workers_of_ray_give_the_curve_of_one_process(tmp_path, tiny_model):
    pytest.importorskip("ray")
    _, whole = alone(ready(tmp_path / "one", tiny_model))
    report, run = together(ready(tmp_path / "two", tiny_model), TWO)
    assert report.steps == 30
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
    assert not list(run.path.glob(".launch*"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_curve_is_the_same(
    tmp_path, tiny_model, monkeypatch, capfd
):
    pytest.importorskip("ray")
    _, whole = alone(ready(tmp_path / "one", tiny_model))
    loaded = ready(tmp_path / "two", tiny_model)
    site, killed = tmp_path / "site", tmp_path / "killed"
    site.mkdir()
    (site / "sitecustomize.py").write_text(KILLS.format(killed=str(killed)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    report, run = together(loaded, TWO)
    assert killed.is_file()
    assert capfd.readouterr().err.count("all start again from the last checkpoint") == 1
    assert report.steps == 30
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)


KILLS = """
import os, pathlib, sys, threading, time
def watch():
    # A worker of Ray: its rank is known once training begins.
    killed = pathlib.Path({killed!r})
    while not killed.exists():
        time.sleep(0.05)
        module = sys.modules.get("burnish.training.trainer")
        if os.environ.get("RANK") != "1" or module is None or not hasattr(module, "BurnishTrainer"):
            continue
        original, seen = module.BurnishTrainer.training_step, []
        def step(self, *args, **rest):
            seen.append(1)
            if len(seen) == 13 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), 9)
            return original(self, *args, **rest)
        module.BurnishTrainer.training_step = step
        return
threading.Thread(target=watch, daemon=True).start()
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_an_error_in_a_worker_is_told_once_and_not_tried_again(tmp_path, tiny_model, capfd):
    pytest.importorskip("ray")
    loaded = ready(tmp_path / "run", tiny_model)
    RunDir(loaded.run_dir).prompts.unlink()
    with pytest.raises(TrainingError, match=r"prompts\.json"):
        together(loaded, TWO)
    assert "all start again" not in capfd.readouterr().err
