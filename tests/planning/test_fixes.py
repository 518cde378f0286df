import numpy as np

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
