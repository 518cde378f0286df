"""Saving: the private methods that are replaced, full disks, and what is noted."""

from __future__ import annotations

import errno
import inspect
import json
import os

import pytest
import torch
from safetensors import SafetensorError
from transformers import Trainer

from burnish.errors import TrainingError
from burnish.run_dir import RunDir
from burnish.training import checkpoint
from burnish.training.checkpoint import checkpoints
from burnish.training.journal import read_lines
from burnish.training.saving import SavingTrainer
from tests.training.test_train import STILL, go, prepared


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("_get_output_dir", ["self", "trial"]),
        ("_save_checkpoint", ["self", "model", "trial"]),
        ("_load_best_model", ["self"]),
        ("_determine_best_metric", ["self", "metrics", "trial"]),
        ("_finalize_training", ["self", "trial", "num_train_samples", "start_time"]),
        (
            "_maybe_log_save_evaluate",
            [
                "self",
                "tr_loss",
                "grad_norm",
                "model",
                "trial",
                "epoch",
                "ignore_keys_for_eval",
                "start_time",
                "learning_rate",
            ],
        ),
    ],
)
def test_the_methods_that_are_replaced_still_have_the_signatures_relied_on(name, parameters):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == parameters
    assert list(inspect.signature(getattr(SavingTrainer, name)).parameters) == parameters


def test_stock_saving_still_asks_for_its_folder_where_it_is_replaced():
    source = inspect.getsource(Trainer._save_checkpoint)
    assert "self._get_output_dir(" in source
    assert "best_model_checkpoint" in inspect.getsource(Trainer._load_best_model)
    loop = inspect.getsource(Trainer._maybe_log_save_evaluate)
    assert loop.index("_determine_best_metric") < loop.index("self.control.should_save:")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
STREAM = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
RUST = SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space left" })')


def fails_at(monkeypatch, place, number, error):
    """Lets the so-many-th call of a function fail, once."""
    owner, name = place
    original, calls = getattr(owner, name), [0]

    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == number:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def places():
    import peft.peft_model
    from transformers import TrainerState

    from burnish.training import saving

    return {
        "adapter": ((peft.peft_model, "safe_save_file"), [2], RUST),
        # training_args.bin, optimizer.pt, scheduler.pt and rng_state.pth of the second checkpoint
        "torch": ((torch, "save"), [5, 6, 7, 8], STREAM),
        "state": ((TrainerState, "save_to_json"), [2], FULL),
        "record": ((saving, "write_json"), [2], FULL),
        "seal": ((checkpoint, "write_json"), [2], FULL),
        "move": ((checkpoint, "replace_folder"), [2], FULL),
    }


@pytest.mark.parametrize("place", ["adapter", "torch", "state", "record", "seal", "move"])
def test_a_full_disk_at_any_place_of_saving_is_one_error_and_harms_nothing(
    tmp_path, tiny_model, monkeypatch, place
):
    whole, whole_run = go(prepared(tmp_path / "whole", tiny_model))
    name = "adapter_model.safetensors"
    where, numbers, error = places()[place]
    for number in numbers:
        loaded = prepared(tmp_path / f"full-{number}", tiny_model)
        run = RunDir(loaded.run_dir)
        with monkeypatch.context() as patch:
            fails_at(patch, where, number, error)
            with pytest.raises(TrainingError, match="checkpoint-8: it could not be written") as e:
                go(loaded)
        assert e.value.remedy.endswith("it goes on from checkpoint-4.")
        assert [p.name for p in run.checkpoints.iterdir()] == ["checkpoint-4"]
        assert checkpoint.fault(run.checkpoints / "checkpoint-4") is None
        report, _ = go(loaded)
        assert report.steps == whole.steps
        assert (run.adapter / name).read_bytes() == (whole_run.adapter / name).read_bytes()


def test_a_full_disk_for_the_last_adapter_is_told_likewise(tmp_path, tiny_model, monkeypatch):
    import peft.peft_model

    loaded = prepared(tmp_path, tiny_model)
    with monkeypatch.context() as patch:
        fails_at(patch, (peft.peft_model, "safe_save_file"), 4, RUST)
        with pytest.raises(TrainingError, match="it could not be written: No space") as e:
            go(loaded)
    assert e.value.remedy.endswith("it goes on from checkpoint-12.")
    go(loaded)


def test_a_checkpoint_notes_what_it_was_made_from_and_where_it_stands(tmp_path, tiny_model):
    _, run = go(prepared(tmp_path, tiny_model, {"logging_steps": 3}))
    record = json.loads((run.checkpoints / "checkpoint-12" / checkpoint.RECORD).read_text())
    assert record["made_from"]["lora.r"] == 2
    assert record["machine"]["dtype"] == "float32"
    assert set(record["weights"]) == {"model.weights", "trained"}
    assert len(record["weights"]["trained"]) == 2 * 7 * 2
    assert record["counters"]["supervised_tokens"] == 3 * 25 * 10
    assert record["position"]["at_epoch_end"]
    assert record["position"]["last_logged"] == 12
    assert not record["position"]["is_over"]
    assert record["lines"]["metrics.jsonl"] == 4 + 3


def test_a_best_evaluation_is_saved_also_between_two_checkpoints(tmp_path, tiny_model):
    settings = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2}
    report, run = go(prepared(tmp_path, tiny_model, settings | {"save_steps": 8}))
    kept = [p.name for p in checkpoints(run.checkpoints)]
    assert f"checkpoint-{report.best_step}" in kept


def test_a_best_checkpoint_that_was_harmed_is_not_taken_for_the_result(
    tmp_path, tiny_model, monkeypatch
):
    loaded = prepared(tmp_path, tiny_model)
    run = RunDir(loaded.run_dir)
    original = SavingTrainer._load_best_model

    def harmed(self):
        weights = run.checkpoints / f"checkpoint-{self.state.best_global_step}" / "optimizer.pt"
        weights.write_bytes(b"")
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(SavingTrainer, "_load_best_model", harmed)
        with pytest.raises(TrainingError, match="the best adapter can't be taken from here"):
            go(loaded)
    assert go(loaded)[0].steps == 12


def test_nothing_is_pruned_behind_a_checkpoint_that_does_not_read_back(
    tmp_path, tiny_model, monkeypatch, capfd
):
    monkeypatch.setattr(checkpoint, "publish", lambda folder, root: _published(folder, root))
    _, run = go(prepared(tmp_path, tiny_model, {"save_total_limit": 1}))
    assert [p.name for p in checkpoints(run.checkpoints)] == [
        "checkpoint-4",
        "checkpoint-8",
        "checkpoint-12",
    ]


def _published(folder, root):
    checkpoint.seal(folder)
    checkpoint.replace_folder(folder, root / folder.name)
    return False


def test_what_saving_left_out_is_an_error_before_the_checkpoint_counts(
    tmp_path, tiny_model, monkeypatch
):
    monkeypatch.setattr(SavingTrainer, "_save_rng_state", lambda self, folder: None)
    loaded = prepared(tmp_path, tiny_model)
    with pytest.raises(TrainingError, match="it does not hold the state of the random numbers"):
        go(loaded)
    assert checkpoints(RunDir(loaded.run_dir).checkpoints) == []


def losses_of(run):
    """The lines about the training loss: step -> loss."""
    lines = read_lines(run.folder("train") / "metrics.jsonl")
    return [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def step_by_step(tmp_path_factory, tiny_model):
    """The loss of each of twelve steps."""
    _, run = go(prepared(tmp_path_factory.mktemp("steps"), tiny_model, {"logging_steps": 1}))
    return [loss for _, loss in losses_of(run)]


def mean(values):
    return sum(values) / len(values)


def test_a_run_shorter_than_its_logging_steps_has_one_line_with_the_mean(
    tmp_path, tiny_model, step_by_step
):
    _, run = go(prepared(tmp_path, tiny_model, {"logging_steps": 100}))
    assert losses_of(run) == [(12, pytest.approx(mean(step_by_step)))]


def test_the_last_line_is_the_mean_since_the_one_before_and_comes_once(
    tmp_path, tiny_model, step_by_step
):
    def lines(name, width):
        _, run = go(prepared(tmp_path / name, tiny_model, {"logging_steps": width}))
        return losses_of(run)

    expected = [mean(step_by_step[a:b]) for a, b in ((0, 5), (5, 10), (10, 12))]
    assert lines("five", 5) == [
        (step, pytest.approx(loss)) for step, loss in zip((5, 10, 12), expected, strict=True)
    ]
    assert [step for step, _ in lines("six", 6)] == [6, 12]


def test_steps_before_an_early_end_are_in_the_last_line(tmp_path, tiny_model):
    settings = {**STILL, "num_train_epochs": 20, "early_stopping_patience": 2, "logging_steps": 5}
    loaded = prepared(tmp_path, tiny_model, settings)
    _, run = go(loaded)
    lines = losses_of(run)
    assert [step for step, _ in lines] == [5, 10, 12]
    go(loaded)  # which takes up the last checkpoint, and has nothing left to do
    assert losses_of(run) == lines


def test_with_a_line_an_epoch_a_run_that_ends_within_one_has_its_last_line_once(
    tmp_path, tiny_model
):
    settings = {"logging_strategy": "epoch", "max_steps": 6, "load_best_model_at_end": False}
    _, run = go(prepared(tmp_path, tiny_model, settings))
    assert [step for step, _ in losses_of(run)] == [4, 6]
