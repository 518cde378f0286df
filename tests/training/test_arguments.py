"""TrainingArguments of a recipe. What each setting does in a run is in test_train.py."""

from __future__ import annotations

from typing import get_args

import pytest

from burnish.recipe import TrainSection
from burnish.training.arguments import training_arguments


def test_accumulation_is_burnishs_own_so_the_trainers_is_one(tmp_path):
    section = TrainSection(gradient_accumulation_steps=8)
    made = training_arguments(section, tmp_path, has_validation=True)
    assert made.gradient_accumulation_steps == 1


def test_a_loss_that_is_not_a_number_is_shown_as_it_is(tmp_path):
    made = training_arguments(TrainSection(), tmp_path, has_validation=True)
    assert made.logging_nan_inf_filter is False


def test_what_burnish_does_itself_the_trainer_does_not_do_again(tmp_path):
    section = TrainSection(torch_compile=True, use_liger_kernel=True)
    made = training_arguments(section, tmp_path, has_validation=True)
    assert (made.torch_compile, made.use_liger_kernel) == (False, False)


def test_the_optimizer_is_fused_unless_the_recipe_says_otherwise(tmp_path):
    made = training_arguments(TrainSection(), tmp_path, has_validation=True)
    assert made.optim == "adamw_torch_fused"


def test_galore_gets_all_linear_layers_and_its_settings(tmp_path):
    section = TrainSection(
        method="full", optim="galore_adamw", optim_args={"rank": 64, "scale": 0.5}
    )
    made = training_arguments(section, tmp_path, has_validation=False)
    assert made.optim.value == "galore_adamw"
    assert (made.optim_target_modules, made.optim_args) == ("all-linear", "rank=64,scale=0.5")


def test_what_the_schedule_takes_besides_reaches_it(tmp_path):
    section = TrainSection(
        lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1}
    )
    made = training_arguments(section, tmp_path, has_validation=False)
    assert made.lr_scheduler_kwargs == {"min_lr_rate": 0.1}


@pytest.mark.parametrize("name", get_args(TrainSection.model_fields["optim"].annotation))
def test_every_optimizer_has_a_name_that_transformers_knows(tmp_path, name):
    method = "full" if name.startswith(("galore", "apollo")) else "lora"
    section = TrainSection(method=method, optim=name)
    made = training_arguments(section, tmp_path, has_validation=False)
    assert made.optim.value == ("adamw_torch" if name == "muon" else name)
