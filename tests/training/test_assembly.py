"""What a run's trainer is put together from; whole runs are in test_train.py."""

from __future__ import annotations

import pytest

from burnish.recipe import TrainSection
from burnish.training import offloading
from burnish.training.accumulation import Accumulation
from burnish.training.assembly import build
from burnish.training.journal import METRICS_NAME
from burnish.training.metrics import Reporter
from tests.training.test_train import RunDir, prepared


def built_with(folder, model, **settings):
    loaded = prepared(folder, model, {"lora": {"r": 2}, "row_length": 64, **settings})
    run = RunDir(loaded.run_dir)
    run.folder("train").mkdir()
    reporter = Reporter(run.folder("train") / METRICS_NAME)
    return build(loaded.recipe.model, loaded.recipe.train, run, reporter)


@pytest.fixture
def built(tmp_path, tiny_model):
    return built_with(tmp_path, tiny_model)


def test_a_step_has_the_examples_that_the_recipe_says(built):
    # 25 examples, 4 x 2 a step
    assert [len(step) for step in built._steps] == [8, 8, 8, 1]


def test_rows_are_as_long_as_the_recipe_says_and_only_the_adapter_learns(built):
    work = built._accumulation
    assert isinstance(work, Accumulation)
    assert work.packing.row_length == 64
    assert work.packing.is_on == TrainSection().packing
    learning = [n for n, p in built.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in learning)
    assert len(learning) == len(work._parameters)


@pytest.mark.parametrize("wanted", [True, False])
def test_activations_are_offloaded_where_the_recipe_says_so(
    tmp_path, tiny_model, wanted, monkeypatch
):
    changed = []

    def noted(backend, model):
        changed.append(model)
        return backend

    monkeypatch.setattr(offloading, "offloading", noted)
    trainer = built_with(tmp_path, tiny_model, activation_offloading=wanted)
    assert changed == ([trainer.model] if wanted else [])
