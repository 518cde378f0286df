"""TrainingArguments of a recipe. What each setting does in a run is in test_train.py."""

from __future__ import annotations

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
