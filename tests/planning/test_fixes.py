import dataclasses

import numpy as np
import torch

from burnish.planning.batches import sorted_batches
from burnish.planning.fixes import fixes, smaller_model
from burnish.planning.memory import Memory
from burnish.planning.outlook import Outlook, with_settings
from burnish.planning.rows import Rows, cut
from burnish.recipe import DataSection, Recipe, Source
from tests.conftest import tiny_llama

RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))
LENGTHS = np.arange(1, 1001)
ROWS = Rows(LENGTHS, LENGTHS, LENGTHS[:0], LENGTHS[:0], source="made up", estimated=False)


def memory_of(peak):
    return Memory(peak, 0, 0, 0, 0, 0, 0, worst="training", dtype=torch.float32)


def check(recipe):
    """8 GiB for 4 rows of 1,024 tokens, in proportion; a third of it with recomputing; 2 more for
    the base, 1 in 8 bits, half of one in 4."""
    train, model = recipe.train, recipe.model
    step = 8 * train.per_device_train_batch_size / 4 * recipe.prepare.max_length / 1024
    if train.gradient_checkpointing:
        step /= 3
    base = 1.0 if model.load_in_8bit else 0.5 if model.load_in_4bit else 2.0
    lengths, supervised, num_cut = cut(LENGTHS, LENGTHS, recipe.prepare)
    batches = sorted_batches(lengths, supervised, 4)
    return Outlook(recipe, batches, None, num_cut, memory_of(step + base))


def test_each_change_is_the_smallest_of_its_kind_that_fits():
    # 10 GiB are needed. Half the micro batch: 6. Recomputing: 4.7. 8 bits: 9.
    assert fixes(RECIPE, ROWS, 9.0, check) == [
        "--set train.per_device_train_batch_size=2 --set train.gradient_accumulation_steps=4 "
        "--set train.per_device_eval_batch_size=2  # 6.0 GiB",
        "--set train.gradient_checkpointing=true  # 4.7 GiB, about a third more time",
        "--set model.load_in_8bit=true  # 9.0 GiB",
        # 99 % of the rows keep to 992 tokens, 95 % to 952, 90 % to 904: 9.06 GiB; 75 % to 752.
        "--set prepare.max_length=752  # 7.9 GiB, 248 answers are cut",
    ]


def test_accumulation_makes_up_for_a_smaller_micro_batch():
    # 4 GiB: one row takes 2 + 2.
    found = fixes(RECIPE, ROWS, 4.0, check)
    assert found[0].startswith(
        "--set train.per_device_train_batch_size=1 --set train.gradient_accumulation_steps=8 "
    )


def test_only_what_fits_is_named():
    assert not any("load_in" in line for line in fixes(RECIPE, ROWS, 4.0, check))


def test_several_changes_at_once_come_where_none_is_enough():
    # 1.2 GiB: one row, recomputed, in 4 bits takes 2 / 3 + 0.5.
    assert fixes(RECIPE, ROWS, 1.2, check) == [
        "--set train.per_device_train_batch_size=1 --set train.gradient_accumulation_steps=8 "
        "--set train.per_device_eval_batch_size=1 --set train.gradient_checkpointing=true "
        "--set model.load_in_4bit=true  # 1.2 GiB, about a third more time"
    ]


def test_where_nothing_fits_nothing_is_named():
    assert fixes(RECIPE, ROWS, 0.5, check) == []


def test_a_smaller_model_is_one_of_this_shape_that_fits():
    config = tiny_llama(1000, num_hidden_layers=8).config

    def by_depth(shape):
        return dataclasses.replace(check(RECIPE), memory=memory_of(shape.num_hidden_layers))

    line = smaller_model(config, 3.0, by_depth)
    assert line is not None
    assert line.startswith("--set model.name_or_path=NAME  # a model of 0.00 billion weights")
    assert "would take 2.0 GiB" in line
    assert smaller_model(config, 0.5, by_depth) is None


def test_changes_that_the_recipe_has_already_are_not_named():
    recipe = with_settings(
        RECIPE, {"train.gradient_checkpointing": True, "model.load_in_4bit": True}
    )
    lines = fixes(recipe, ROWS, 2.0, check)
    assert not any("checkpointing" in line or "load_in" in line for line in lines)
