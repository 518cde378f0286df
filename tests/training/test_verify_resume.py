"""verify-resume: training in one go against training that is cut, bit by bit."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from safetensors.torch import save_file

from burnish.errors import TrainingError
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir
from burnish.training import verify_resume as module
from burnish.training.verify_resume import ResumeReport, compare, refuse_difference, verify_resume
from tests.training.test_train import prepared


def saved(folder, *, weight=1.0, moment=1.0, loss=0.5, seconds=1.0):
    folder.mkdir()
    save_file({"a": torch.tensor([weight, float("nan")])}, folder / "adapter_model.safetensors")
    torch.save({"state": {0: {"m": torch.tensor([moment])}}}, folder / "optimizer.pt")
    record = {"counters": {"loss": loss, "seconds": seconds}, "lines": {"m": seconds}}
    (folder / "resume.json").write_text(json.dumps(record))
    (folder / "seal.json").write_text(str(seconds))
    return folder


def test_equal_checkpoints_are_equal_whatever_the_clock_says(tmp_path):
    one, other = saved(tmp_path / "1"), saved(tmp_path / "2", seconds=2.0)
    assert compare(one, other) == (3, None)


@pytest.mark.parametrize(
    "change, where",
    [
        ({"weight": 1.0000001}, "adapter_model.safetensors: a"),
        ({"moment": 2.0}, "optimizer.pt: state: 0: m"),
        ({"loss": 0.6}, "resume.json: counters: loss"),
    ],
)
def test_the_first_difference_is_named(tmp_path, change, where):
    one, other = saved(tmp_path / "1"), saved(tmp_path / "2", **change)
    assert compare(one, other)[1] == where


def test_a_file_or_value_that_is_missing_is_a_difference(tmp_path):
    one, other = saved(tmp_path / "1"), saved(tmp_path / "2")
    (one / "optimizer.pt").unlink()
    assert compare(one, other)[1] == "optimizer.pt"
    (other / "resume.json").write_text('{"counters": {"loss": 0.5, "more": 1}}')
    (other / "optimizer.pt").unlink()
    assert compare(one, other)[1] == "resume.json: counters: more"


def test_a_difference_ends_the_command_and_an_equal_end_does_not():
    same = ResumeReport(steps=6, cut=3, values_compared=9, equal=True, first_difference=None)
    refuse_difference(same)
    other = same.model_copy(update={"equal": False, "first_difference": "optimizer.pt: 0"})
    with pytest.raises(TrainingError, match=r"cut at step 3 .* to something else: opt") as caught:
        refuse_difference(other)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("cut", [0, 6, 7])
def test_a_cut_that_cuts_nothing_is_refused(tmp_path, cut):
    from burnish.recipe import ModelSection, TrainSection

    with pytest.raises(TrainingError, match=f"--cut: {cut} is not between 0 and 6"):
        verify_resume(ModelSection(), TrainSection(), RunDir(tmp_path), steps=6, cut=cut)


@pytest.mark.slow
def test_a_recipe_proves_that_it_resumes_and_leaves_nothing_behind(tmp_path, tiny_model):
    loaded = prepared(tmp_path, tiny_model)
    run, recipe = RunDir(loaded.run_dir), loaded.recipe
    before = sorted(p.name for p in run.path.iterdir())
    report = verify_resume(recipe.model, recipe.train, run, steps=6, cut=5)
    assert (report.steps, report.cut, report.equal) == (6, 5, True)
    assert report.values_compared > 200
    assert sorted(p.name for p in run.path.iterdir()) == before


@pytest.mark.slow
def test_a_cut_behind_the_last_step_of_a_recipe_is_refused(tmp_path, tiny_model):
    loaded = prepared(tmp_path, tiny_model, {"max_steps": 3})
    run, recipe = RunDir(loaded.run_dir), loaded.recipe
    with pytest.raises(TrainingError, match="this recipe trains 3 steps in all"):
        verify_resume(recipe.model, recipe.train, run, steps=8, cut=4)


def test_a_process_that_is_killed_is_told_in_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_train_until", killed)
    with pytest.raises(TrainingError, match="a training process ended without a word"):
        module._in_own_process(ModelSection(), TrainSection(), RunDir(tmp_path), 1)


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
