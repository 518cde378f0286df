import dataclasses

import numpy as np

from burnish.errors import RecipeError
from burnish.planning.fixes import fixes, smaller_model
from burnish.planning.rows import Rows
from tests.conftest import tiny_llama
from tests.planning.made_up import RECIPE, outlook_of, recipe_with

LENGTHS = np.arange(1, 1001)
ROWS = Rows(LENGTHS, LENGTHS, LENGTHS[:0], LENGTHS[:0], [], [], source="made up", estimated=False)
SMALLER = ({"train.row_length": 512}, {"train.row_length": 256})
PLAIN = recipe_with(train__gradient_checkpointing=False)


def check_in(room):
    """8 GiB for a row of 1,024 tokens, in proportion to it and to max_length; a third of it where
    layers recompute; 2 more for the base, 1 in 8 bits, half of one in 4."""

    def check(recipe):
        train, model = recipe.train, recipe.model
        step = 8 * train.row_length / 1024 * recipe.prepare.max_length / 1024
        if train.gradient_checkpointing:
            step /= 3
        base = 1.0 if model.load_in_8bit else 0.5 if model.load_in_4bit else 2.0
        return outlook_of(recipe, step + base, room=room, lengths=LENGTHS)

    return check


def test_each_change_is_the_smallest_of_its_kind_that_fits():
    # 10 GiB are needed. Half a row: 6. Recomputing: 4.7. 8 bits: 9.
    assert fixes(PLAIN, ROWS, check_in(9.0), SMALLER) == [
        "--set train.row_length=512  # 6.0 GiB",
        "--set train.gradient_checkpointing=auto  # 4.7 GiB, 0 layers recompute",
        "--set model.load_in_8bit=true  # 9.0 GiB",
        # 99 % of the rows keep to 992 tokens, 95 % to 952, 90 % to 904: 9.06 GiB; 75 % to 752.
        "--set prepare.max_length=752  # 7.9 GiB, 248 answers are cut",
    ]


def test_only_what_fits_is_named():
    found = fixes(PLAIN, ROWS, check_in(4.0), SMALLER)
    assert found[0] == "--set train.row_length=256  # 4.0 GiB"
    assert not any("load_in" in line for line in found)


def test_several_changes_at_once_come_where_none_is_enough():
    # 1.2 GiB: a quarter of a row, recomputed, in 4 bits takes 2 / 3 + 0.5.
    assert fixes(PLAIN, ROWS, check_in(1.2), SMALLER) == [
        "--set train.row_length=256 --set train.gradient_checkpointing=auto "
        "--set model.load_in_4bit=true  # 1.2 GiB, 0 layers recompute"
    ]


def test_where_nothing_fits_nothing_is_named():
    assert fixes(PLAIN, ROWS, check_in(0.5), SMALLER) == []


def test_a_smaller_model_is_measured_not_named():
    config = tiny_llama(1000, num_hidden_layers=8).config

    def by_depth(room):
        return lambda shape: outlook_of(RECIPE, shape.num_hidden_layers, room=room)

    assert smaller_model(config, by_depth(3.0)) == (
        "# or a smaller model: 0.00 billion weights in layers of this shape take 2.0 GiB; this one "
        "has 0.00"
    )
    assert smaller_model(config, by_depth(0.5)) is None


def test_changes_that_the_recipe_has_already_are_not_named():
    recipe = recipe_with(train__gradient_checkpointing=True, model__load_in_4bit=True)
    lines = fixes(recipe, ROWS, check_in(2.0), SMALLER)
    assert not any("checkpointing" in line or "load_in" in line for line in lines)
    assert lines


def test_auto_has_done_already_what_recomputing_can():
    lines = fixes(RECIPE, ROWS, check_in(2.9), SMALLER)
    assert not any("checkpointing" in line for line in lines)


def test_on_a_gpu_activations_may_go_to_the_cpu_after_recomputing():
    def check(recipe):
        moved = recipe.train.activation_offloading
        seen = outlook_of(recipe, 6.0 if moved else 9.5, room=9.0, lengths=LENGTHS)
        memory = seen.memory.model_copy(update={"offloaded": 3.5 if moved else 0.0})
        return dataclasses.replace(seen, memory=memory)

    line = "--set train.activation_offloading=true  # 6.0 GiB, and 3.5 GiB of the CPU's"
    assert fixes(RECIPE, ROWS, check, (), device="cuda") == [line]
    assert fixes(RECIPE, ROWS, check, ()) == []
    on = recipe_with(train__activation_offloading=True, model__load_in_4bit=True)
    assert not any("offloading" in line for line in fixes(on, ROWS, check, (), device="cuda"))


def test_offloading_stands_behind_recomputing_where_several_changes_are_made_at_once():
    found = fixes(PLAIN, ROWS, check_in(1.2), SMALLER, device="cuda")
    assert found == [
        "--set train.row_length=256 --set train.gradient_checkpointing=auto "
        "--set train.activation_offloading=true --set model.load_in_4bit=true  "
        "# 1.2 GiB, 0 layers recompute, and 0.0 GiB of the CPU's"
    ]


def test_what_the_recipe_can_not_have_is_not_named():
    # Weights that learn can't be in 8 or 4 bits; a plan of such a recipe must not end there.
    recipe = recipe_with(train__method="full", train__gradient_checkpointing=False)
    assert fixes(recipe, ROWS, check_in(9.0), SMALLER) == [
        "--set train.row_length=512  # 6.0 GiB",
        "--set train.gradient_checkpointing=auto  # 4.7 GiB, 0 layers recompute",
        "--set prepare.max_length=752  # 7.9 GiB, 248 answers are cut",
    ]
    # 2 for the base and 2 / 3 for a quarter of a row.
    assert fixes(recipe, ROWS, check_in(2.7), SMALLER) == [
        "--set train.row_length=256 --set train.gradient_checkpointing=auto  "
        "# 2.7 GiB, 0 layers recompute"
    ]


def test_rows_that_a_shorter_length_leaves_out_are_counted():
    recipe = recipe_with(prepare__too_long="reject", train__gradient_checkpointing=True)
    (line,) = [line for line in fixes(recipe, ROWS, check_in(3.4), ()) if "max_length" in line]
    assert line.endswith("# 3.3 GiB, 496 of 1,000 rows are left out")


def test_layers_that_learn_by_name_leave_no_smaller_model():
    config = tiny_llama(1000, num_hidden_layers=8).config

    def check(shape):
        raise RecipeError("train.freeze_trainable_layers", "'layers.7' names no part.")

    assert smaller_model(config, check) is None


def test_a_base_whose_files_are_quantized_is_offered_no_other_width():
    lines = fixes(PLAIN, ROWS, check_in(9.0), SMALLER, is_quantized=True)
    assert len(lines) == 3
    assert not any("load_in" in line for line in lines)
