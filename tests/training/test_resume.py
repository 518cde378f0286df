"""Going on: cut at any step and resumed, a run ends in the same adapter and the same journal."""

from __future__ import annotations

import inspect
import json
import os
import signal

import pytest
import torch
from transformers import Trainer, TrainerCallback

from burnish.errors import TrainingError
from burnish.exits import GO_ON_LATER
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from burnish.training import assembly, checkpoint
from burnish.training.accumulation import Accumulation
from burnish.training.checkpoint import checkpoints
from burnish.training.journal import read_lines
from burnish.training.resume import ResumingTrainer
from burnish.training.saving import SavingTrainer
from burnish.training.trainer import BurnishTrainer
from tests.training.test_train import STILL, go, prepared

ADAPTER = "adapter_model.safetensors"
OF_THE_CLOCK = {"useful_tokens_per_second", "peak_memory_gib", "tokens_per_second", "mfu"}


def adapter_of(run):
    return (run.adapter / ADAPTER).read_bytes()


def journal(run):
    """metrics.jsonl without what depends on the clock."""
    lines = read_lines(run.folder("train") / "metrics.jsonl")
    kept = ("step", "epoch", "train/loss", "validation/loss", "learning_rate", "grad_norm")
    return [{name: line[name] for name in kept if name in line} for line in lines]


def asks_at(monkeypatch, step):
    """Asks a run to stop at a step, as a signal would."""
    original = assembly.build

    def build(*args):
        trainer = original(*args)

        class Ask(TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                if state.global_step == step:
                    trainer.stop.ask()

        trainer.add_callback(Ask())
        return trainer

    monkeypatch.setattr(assembly, "build", build)


def cut_at(loaded, monkeypatch, step):
    with monkeypatch.context() as patch:
        asks_at(patch, step)
        with pytest.raises(SystemExit) as ended:
            go(loaded)
    assert ended.value.code == GO_ON_LATER
    assert checkpoints(RunDir(loaded.run_dir).checkpoints)[-1].name == f"checkpoint-{step}"


EPOCHS = {"logging_steps": 3}
STEPS = {
    "logging_steps": 3,
    "save_strategy": "steps",
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_steps": 4,
    "max_steps": 11,
}
MIXED = {
    "logging_strategy": "epoch",
    "save_strategy": "steps",
    "save_steps": 4,
    "eval_strategy": "epoch",
    "load_best_model_at_end": False,
    "num_train_epochs": 2.6,
    "optim": "adafactor",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model):
    """The report and run folder of a recipe that was never cut, by its name."""
    made = {}

    def of(name, settings):
        if name not in made:
            made[name] = go(prepared(tmp_path_factory.mktemp(name) / "whole", tiny_model, settings))
        return made[name]

    return of


CUTS = [
    *[("epochs", EPOCHS, step) for step in (1, 4, 6, 12)],
    *[("steps", STEPS, step) for step in (3, 8, 11)],
    *[("mixed", MIXED, step) for step in (4, 7, 8, 11)],
]


@pytest.mark.parametrize("name, settings, step", CUTS, ids=lambda v: v if v != v else str(v)[:6])
def test_a_run_that_was_asked_to_stop_goes_on_to_the_very_same_end(
    tmp_path, tiny_model, monkeypatch, whole, name, settings, step
):
    report, expected = whole(name, settings)
    loaded = prepared(tmp_path, tiny_model, settings)
    cut_at(loaded, monkeypatch, step)
    resumed, run = go(loaded)
    assert adapter_of(run) == adapter_of(expected)
    assert journal(run) == journal(expected)
    assert resumed.best_step == report.best_step
    assert resumed.train_loss == report.train_loss


@pytest.mark.slow
@pytest.mark.parametrize("name, settings", [("epochs", EPOCHS), ("steps", STEPS), ("mixed", MIXED)])
def test_a_run_that_stops_at_every_step_ends_the_same(
    tmp_path, tiny_model, monkeypatch, whole, name, settings
):
    report, expected = whole(name, settings)
    loaded = prepared(tmp_path, tiny_model, settings)
    for step in range(1, report.steps + 1):
        cut_at(loaded, monkeypatch, step)
    _, run = go(loaded)
    assert adapter_of(run) == adapter_of(expected)
    assert journal(run) == journal(expected)


class Killed(BaseException):
    """Stands for kill -9: nothing is cleaned up by hand in these tests."""


def dies_in(monkeypatch, owner, name, number, *, after=False):
    """Ends a run before, or after, the so-many-th call of a function."""
    original, calls = getattr(owner, name), [0]

    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == number and not after:
            raise Killed
        result = original(*args, **kwargs)
        if calls[0] == number:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, call)


MOMENTS = {
    "in an evaluation": (Accumulation, "loss_sum", 2, False),
    "after an evaluation": (BurnishTrainer, "evaluate", 2, True),
    "before sealing": (checkpoint, "seal", 2, False),
    "before moving": (checkpoint, "replace_folder", 2, False),
    "after moving": (checkpoint, "replace_folder", 2, True),
    "before pruning": (checkpoint, "prune", 3, False),
    "after the last checkpoint": (SavingTrainer, "_save_checkpoint", 3, True),
    "before the best is loaded": (SavingTrainer, "_load_best_model", 1, False),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_dies_at_a_bad_moment_goes_on_to_the_same_end(
    tmp_path, tiny_model, monkeypatch, whole, moment
):
    _, expected = whole("epochs", EPOCHS)
    loaded = prepared(tmp_path, tiny_model, EPOCHS)
    with monkeypatch.context() as patch:
        owner, name, number, after = MOMENTS[moment]
        dies_in(patch, owner, name, number, after=after)
        with pytest.raises(Killed):
            go(loaded)
    _, run = go(loaded)
    assert adapter_of(run) == adapter_of(expected)
    assert journal(run) == journal(expected)


@pytest.mark.parametrize("settings", [{"max_steps": 6}, {"num_train_epochs": 1.5}])
def test_a_run_that_is_over_in_the_middle_of_an_epoch_takes_no_further_step(
    tmp_path, tiny_model, settings
):
    settings = {"lr_scheduler_type": "constant", "load_best_model_at_end": False, **settings}
    loaded = prepared(tmp_path, tiny_model, settings)
    first, run = go(loaded)
    before = adapter_of(run)
    second, _ = go(loaded)
    assert (first.steps, second.steps) == (6, 6)
    assert adapter_of(run) == before


def test_a_run_that_early_stopping_has_ended_takes_no_further_step(tmp_path, tiny_model):
    settings = {**STILL, "num_train_epochs": 20, "early_stopping_patience": 2}
    loaded = prepared(tmp_path, tiny_model, settings)
    first, run = go(loaded)
    lines = journal(run)
    second, _ = go(loaded)
    assert (first.steps, second.steps) == (12, 12)
    assert journal(run) == lines


def test_early_stopping_goes_on_counting_where_it_was(tmp_path, tiny_model, monkeypatch):
    settings = {**STILL, "num_train_epochs": 20, "early_stopping_patience": 3}
    loaded = prepared(tmp_path, tiny_model, settings)
    cut_at(loaded, monkeypatch, 10)
    report, _ = go(loaded)
    assert (report.best_step, report.steps) == (4, 16)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_evaluation_is_left_by_a_signal_and_made_after_the_resume(
    tmp_path, tiny_model, monkeypatch, whole
):
    _, expected = whole("epochs", EPOCHS)
    loaded = prepared(tmp_path, tiny_model, EPOCHS)
    original, calls = Accumulation.loss_sum, [0]

    def loss_sum(self, records):
        calls[0] += 1
        if calls[0] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, records)

    with monkeypatch.context() as patch:
        patch.setattr(Accumulation, "loss_sum", loss_sum)
        with pytest.raises(SystemExit) as ended:
            go(loaded)
    assert ended.value.code == GO_ON_LATER
    run = RunDir(loaded.run_dir)
    folder = run.checkpoints / "checkpoint-8"
    assert json.loads((folder / checkpoint.RECORD).read_text())["position"]["evaluate"]
    assert [line["step"] for line in journal(run) if "validation/loss" in line] == [4]
    go(loaded)
    assert adapter_of(run) == adapter_of(expected)
    assert journal(run) == journal(expected)


def test_a_checkpoint_that_is_harmed_costs_steps_and_nothing_else(
    tmp_path, tiny_model, monkeypatch, whole
):
    _, expected = whole("epochs", EPOCHS)
    loaded = prepared(tmp_path, tiny_model, EPOCHS)
    cut_at(loaded, monkeypatch, 6)
    run = RunDir(loaded.run_dir)
    (run.checkpoints / "checkpoint-6" / "scheduler.pt").unlink()
    go(loaded)
    assert adapter_of(run) == adapter_of(expected)
    assert journal(run) == journal(expected)


# --- what may change ---------------------------------------------------------------------------


def changed(loaded, **settings):
    """The same recipe with other settings of train, the run folder as it is."""
    sets = [f"train.{name}={json.dumps(value)}" for name, value in settings.items()]
    section = loaded.recipe.train.model_dump(mode="json")
    path = loaded.run_dir.parent / "recipe.yaml"
    return load_recipe(path, [f"train={json.dumps(section)}", *sets])


def test_another_learning_rate_is_refused_and_taken_where_it_is_allowed(
    tmp_path, tiny_model, monkeypatch
):
    settings = {"lr_scheduler_type": "linear", "warmup_ratio": 0.0}  # the rate falls by 1/12 a step
    loaded = prepared(tmp_path, tiny_model, settings)
    cut_at(loaded, monkeypatch, 6)
    with pytest.raises(TrainingError, match=r"train\.learning_rate was 0\.01, is 0\.02"):
        go(changed(loaded, learning_rate=2e-2))
    _, run = go(changed(loaded, learning_rate=2e-2, allow_changed=["learning_rate"]))
    rates = [line["learning_rate"] for line in journal(run) if "learning_rate" in line]
    before = [0.01 * (12 - step) / 12 for step in range(6)]
    after = [0.02 * (12 - step) / 12 for step in range(6, 12)]
    assert rates == pytest.approx(before + after)


def test_a_longer_run_goes_on_from_a_finished_one_where_it_is_allowed(tmp_path, tiny_model):
    settings = {"lr_scheduler_type": "linear", "warmup_ratio": 0.0}
    loaded = prepared(tmp_path, tiny_model, settings)
    go(loaded)
    longer = changed(loaded, num_train_epochs=4, allow_changed=["num_train_epochs"])
    report, run = go(longer)
    assert report.steps == 16
    rates = [line["learning_rate"] for line in journal(run) if "learning_rate" in line]
    assert rates[12:] == pytest.approx([0.01 * (16 - step) / 16 for step in range(12, 16)])


def test_settings_without_effect_may_change_and_count_at_once(tmp_path, tiny_model, monkeypatch):
    loaded = prepared(tmp_path, tiny_model, {"logging_steps": 1})
    cut_at(loaded, monkeypatch, 6)
    _, run = go(changed(loaded, logging_steps=3))
    steps = [line["step"] for line in journal(run) if "train/loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6, 9, 12]


def test_a_patience_that_is_allowed_to_change_is_the_new_one(tmp_path, tiny_model, monkeypatch):
    settings = {**STILL, "num_train_epochs": 20, "early_stopping_patience": 9}
    loaded = prepared(tmp_path, tiny_model, settings)
    cut_at(loaded, monkeypatch, 9)
    name = "early_stopping_patience"
    report, _ = go(changed(loaded, early_stopping_patience=2, allow_changed=[name]))
    assert report.steps == 12


def test_other_rows_are_refused_and_no_checkpoint_is_lost(tmp_path, tiny_model, monkeypatch):
    from datasets import load_from_disk

    loaded = prepared(tmp_path, tiny_model)
    cut_at(loaded, monkeypatch, 6)
    run = RunDir(loaded.run_dir)
    rows = load_from_disk(str(run.split("validation")))
    other = rows.select(range(len(rows) - 1)).flatten_indices()
    held = {"input_ids": other["input_ids"], "labels": other["labels"]}
    import datasets

    datasets.Dataset.from_dict(held).save_to_disk(str(tmp_path / "other"))
    (run.split("validation")).rename(tmp_path / "was")
    (tmp_path / "other").rename(run.split("validation"))
    with pytest.raises(TrainingError, match="the validation rows changed"):
        go(loaded)
    assert [p.name for p in checkpoints(run.checkpoints)] == ["checkpoint-4", "checkpoint-6"]


def test_weights_that_were_not_loaded_stop_the_run(tmp_path, tiny_model, monkeypatch):
    loaded = prepared(tmp_path, tiny_model)
    cut_at(loaded, monkeypatch, 6)
    monkeypatch.setattr(Trainer, "_load_from_checkpoint", lambda self, folder, model=None: None)
    with pytest.raises(TrainingError, match=r"after loading it, .*lora_A.* is not what was saved"):
        go(loaded)


def test_rows_that_memory_has_shortened_stay_short(tmp_path, tiny_model, monkeypatch):
    seen = []
    original = Accumulation.backward

    def backward(self, records, **rest):
        if not seen:
            self.packing = type(self.packing)(40, self.packing.is_on, self.packing.share_prefixes)
        seen.append(self.packing.row_length)
        return original(self, records, **rest)

    monkeypatch.setattr(Accumulation, "backward", backward)
    loaded = prepared(tmp_path, tiny_model)
    cut_at(loaded, monkeypatch, 6)
    go(loaded)
    assert seen == [40] * 12


# --- stock code --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("_load_from_checkpoint", ["self", "resume_from_checkpoint", "model"]),
        ("_load_optimizer_and_scheduler", ["self", "checkpoint"]),
        ("_load_callback_state", ["self"]),
        ("_load_rng_state", ["self", "checkpoint"]),
    ],
)
def test_the_methods_that_are_replaced_still_have_the_signatures_relied_on(name, parameters):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == parameters
    assert list(inspect.signature(getattr(ResumingTrainer, name)).parameters) == parameters


def test_stock_training_still_loads_all_before_it_tells_that_training_begins():
    loop = inspect.getsource(Trainer._inner_training_loop)
    order = ["_prepare_for_training(", "self._tr_loss =", "_globalstep_last_logged =", "begin("]
    places = [loop.index(mark) for mark in order]
    assert places == sorted(places)
    assert "self._run_epoch(" in loop
    assert "_load_optimizer_and_scheduler" in inspect.getsource(Trainer._prepare_for_training)


def test_a_checkpoint_that_does_not_fit_is_one_message(tmp_path, tiny_model, monkeypatch):
    loaded = prepared(tmp_path, tiny_model)
    cut_at(loaded, monkeypatch, 6)
    settings = {"lora": {"r": 4, "lora_dropout": 0.1}, "allow_changed": ["lora"]}
    with pytest.raises(TrainingError, match="it does not fit this run") as caught:
        go(changed(loaded, **settings))
    assert caught.value.remedy == "Begin again with: burnish train RECIPE --force"


def test_random_numbers_of_another_number_of_processes_are_told(
    tmp_path, tiny_model, monkeypatch, capfd
):
    loaded = prepared(tmp_path, tiny_model)
    cut_at(loaded, monkeypatch, 6)
    folder = RunDir(loaded.run_dir).checkpoints / "checkpoint-6"
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    checkpoint.seal(folder)
    assert go(loaded)[0].steps == 12
    assert "holds no random numbers for this one: dropout will differ" in capfd.readouterr().err


def test_torch_numbers_python_numbers_and_numpys_go_on(tmp_path, tiny_model, monkeypatch):
    """All three generators are where the whole run left them."""
    import random

    import numpy

    settings = {"max_steps": 8}
    ends = []
    for name, cut in (("whole", None), ("cut", 6)):
        loaded = prepared(tmp_path / name, tiny_model, settings)
        if cut:
            cut_at(loaded, monkeypatch, cut)
        go(loaded)
        ends.append(
            (torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1:3])
        )
    assert ends[0][0] == ends[1][0]
    assert ends[0][1] == ends[1][1]
    assert (ends[0][2][0] == ends[1][2][0]).all()
