"""Weights that are spread over ranks: the curve of one process, and checkpoints for any number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from burnish.conversation import IGNORE_INDEX
from burnish.errors import TrainingError
from burnish.run_dir import RunDir
from burnish.training import ranks, sharded
from burnish.training.accumulation import Packing
from burnish.training.backends import Backend
from burnish.training.launch.commands import command
from burnish.training.launch.job import Job, read_notes
from burnish.training.launch.options import Launch
from burnish.training.loss import PLAIN
from tests.training.launch.runs import alone, back_to, curve, ready
from tests.training.test_trainer import adapted, rows, trainer_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "environment, is_so",
    [
        ({}, False),
        ({"ACCELERATE_USE_FSDP": "false"}, False),
        ({"ACCELERATE_USE_FSDP": "true"}, True),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, True),
    ],
)
def test_the_environment_says_whether_weights_are_to_be_spread(monkeypatch, environment, is_so):
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert sharded.is_asked_for() is is_so
    assert sharded.base_device() == (torch.device("cpu") if is_so else None)


def test_sharding_that_accelerate_silently_leaves_out_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="keeps the weights whole without a word"):
        trainer_for(tmp_path, adapted(), rows())


class Watched:
    """A model of one number, that counts what is asked of it."""

    def __init__(self):
        self.number = torch.nn.Parameter(torch.tensor(2.0))
        self.synced = []

    def set_requires_gradient_sync(self, is_on):
        self.synced.append(is_on)

    def loss_sum(self, row):
        return self.number * int((row.targets != IGNORE_INDEX).sum())


def spread(model, row_length=8):
    backend = Backend("transformers", model.loss_sum, shares_prefixes=False)
    packing = Packing(row_length)
    return sharded.ShardedAccumulation(model, backend, packing, torch.device("cpu"))


RECORDS = [([1, 2, 3, 4], [-100, 2, 3, 4]), ([5, 6, 7, 8, 9], [-100, -100, 7, 8, 9])]
"""Three tokens that carry loss in each; together longer than a row of 8."""


def test_alone_it_gives_the_loss_and_the_gradient_of_its_rows():
    model = Watched()
    loss = spread(model).backward(RECORDS, scale=0.5)
    assert (float(loss), float(model.number.grad)) == (6.0, 3.0)  # 0.5 * 2 * 6 and 0.5 * 6
    assert model.synced == [False, True]
    assert spread(model).loss_sum(RECORDS) == 12.0


def test_a_rank_with_fewer_rows_adds_silent_ones_and_asks_for_a_sum(monkeypatch):
    monkeypatch.setattr(ranks, "largest_over_ranks", lambda number: 3)
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    model = Watched()
    loss = spread(model).backward(RECORDS, scale=0.5)
    assert float(loss) == 6.0
    assert float(model.number.grad) == 6.0  # FSDP halves it again
    assert model.synced == [False, False, True]
    model.number.grad, model.synced = None, []
    assert float(spread(model).backward([], scale=0.5)) == 0.0
    assert float(model.number.grad) == 0.0
    assert len(model.synced) == 3


def test_the_whole_model_is_asked_and_never_its_parts(monkeypatch):
    model = adapted()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    backend = sharded.sharded_backend(model, PLAIN)
    accumulation = sharded.ShardedAccumulation(model, backend, Packing(64), torch.device("cpu"))
    from burnish.training.packed_model import PackedModel

    found = accumulation.loss_sum(rows())
    assert calls
    (row,) = Packing(1024).rows(rows(), backend)
    expected = float(PackedModel(model).loss_sum(row).detach())
    assert found == pytest.approx(expected, rel=1e-5)


def test_values_that_are_not_spread_stay_as_they_are():
    x, step = torch.ones(2), torch.tensor(3.0)
    state = {"state": {0: {"exp_avg": x, "step": step}}, "param_groups": [{"lr": 0.1}]}
    found = sharded._with_tensors(state, lambda tensor: tensor * 2)
    assert found["state"][0]["exp_avg"].tolist() == [2.0, 2.0]
    assert found["param_groups"] == [{"lr": 0.1}]
    assert sharded._spread(step, x) is step
    assert sharded._spread(x, torch.zeros(2)) is x
    assert sharded._whole(x) is x


def test_a_checkpoint_of_deepspeed_is_for_deepspeed_and_as_many_processes(tmp_path, monkeypatch):
    own, zero = tmp_path / "checkpoint-1", tmp_path / "checkpoint-2"
    own.mkdir()
    (zero / "global_step2").mkdir(parents=True)
    for rank in range(2):
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        (zero / "global_step2" / name).touch()
    sharded.check_origin(own, with_zero=False)
    with pytest.raises(TrainingError, match="DeepSpeed can go on from checkpoints of its own only"):
        sharded.check_origin(own, with_zero=True)
    for with_zero in (False, True):  # here in one process
        with pytest.raises(TrainingError, match="for 2 processes alone") as caught:
            sharded.check_origin(zero, with_zero=with_zero)
    assert "--launch deepspeed --processes 2" in caught.value.remedy
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    sharded.check_origin(zero, with_zero=True)


@pytest.mark.parametrize(
    "name",
    [
        "create_accelerator_and_postprocess",
        "save_model",
        "_prepare_for_training",
        "_load_from_checkpoint",
        "_save_optimizer_and_scheduler",
        "_load_optimizer_and_scheduler",
        "_load_best_model",
    ],
)
def test_the_methods_that_are_replaced_still_have_the_parameters_relied_on(name):
    import inspect

    own = inspect.signature(getattr(sharded.GatheringTrainer, name)).parameters
    assert list(own) == list(inspect.signature(getattr(Trainer, name)).parameters)


def test_a_model_that_every_rank_has_whole_is_not_wrapped(tmp_path):
    trainer = trainer_for(tmp_path, adapted(), rows())
    assert trainer.accelerator.prepare_model.keywords == {"evaluation_mode": True}
    trainer.train()
    assert trainer.model_wrapped is trainer.model


# --- two processes with FSDP2 over gloo ---------------------------------------------------------


def spread_over_two(loaded, folder, strategy="fsdp2"):
    """Trains in two processes on the CPU as accelerate would on GPUs."""
    folder.mkdir(exist_ok=True)
    run = RunDir(loaded.run_dir)
    job = Job(loaded.recipe.model, loaded.recipe.train, run.path, Path.cwd(), folder)
    job.write()
    how = Launch("deepspeed" if "zero" in strategy else "accelerate", 2, strategy)
    options = command(how, job, use_cpu=True, bf16=False)[4:-3]
    script = ROOT / "tests" / "training" / "launch" / "sharding_on_cpu.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, str(script),
         str(job.path)],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, [*read_notes(folder), done.stderr]
    assert [note.report["steps"] for note in read_notes(folder)] == [30, 30]
    return run, done.stderr


@pytest.mark.slow
def test_fsdp2_gives_the_curve_and_the_adapter_of_one_process(tmp_path, tiny_model):
    _, whole = alone(ready(tmp_path / "one", tiny_model))
    run, said = spread_over_two(ready(tmp_path / "two", tiny_model), tmp_path / "job")
    assert "its weights are spread over the processes" in said
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
    found, expected = (load_file(r.adapter / sharded.ADAPTER_WEIGHTS) for r in (run, whole))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert found[name].dtype == weight.dtype == torch.float32
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-3)
    names = {p.name for p in (run.checkpoints / "checkpoint-30").iterdir()}
    assert {"optimizer.pt", "scheduler.pt", sharded.ADAPTER_WEIGHTS} <= names
    assert not any("fsdp" in name for name in names)


@pytest.mark.slow
def test_a_checkpoint_of_fsdp2_goes_on_in_one_process_and_back(tmp_path, tiny_model):
    _, whole = alone(ready(tmp_path / "whole", tiny_model))
    loaded = ready(tmp_path / "cut", tiny_model)
    run, _ = spread_over_two(loaded, tmp_path / "first")
    back_to(run, 10)
    alone(loaded)
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
    back_to(run, 20)
    _, said = spread_over_two(loaded, tmp_path / "second")
    assert "going on from checkpoint-20" in said
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_zero_gives_the_curve_of_one_process_and_goes_on(tmp_path, tiny_model, strategy):
    pytest.importorskip("deepspeed")
    _, whole = alone(ready(tmp_path / "one", tiny_model))
    loaded = ready(tmp_path / "two", tiny_model)
    spread_over_two(loaded, tmp_path / "job", strategy)
    back_to(RunDir(loaded.run_dir), 10)
    run, said = spread_over_two(loaded, tmp_path / "again", strategy)
    assert "going on from checkpoint-10" in said
    assert curve(run) == pytest.approx(curve(whole), abs=1e-4)
    found, expected = (load_file(r.adapter / sharded.ADAPTER_WEIGHTS) for r in (run, whole))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-3)
