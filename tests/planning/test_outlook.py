import numpy as np
import pytest
import torch

from burnish.errors import DataError
from burnish.models import loading
from burnish.planning.memory import Place
from burnish.planning.outlook import dtype_on, outlook, percentile_length, with_settings
from burnish.planning.rows import Rows
from burnish.recipe import DataSection, Recipe, Source
from tests.conftest import tiny_llama

RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))


def rows(lengths, held=()):
    values, other = np.array(lengths), np.array(held, dtype=np.int64)
    return Rows(values, values // 2, other, other // 2, source="made up", estimated=False)


def seen(some, **changes):
    recipe = with_settings(RECIPE, {k.replace("__", "."): v for k, v in changes.items()})
    return outlook(recipe, tiny_llama(100).config, some, Place("cpu", 0.5))


def test_steps_go_by_micro_batches_accumulation_and_epochs():
    # 19 rows in micro batches of 4 are 5; 8 rows a step make 3 steps, three epochs 9.
    found = seen(rows([20] * 19))
    assert len(found.training.sizes) == 5
    assert (found.steps_per_epoch, found.num_steps) == (3, 9)


def test_max_steps_takes_precedence():
    assert seen(rows([20] * 19), train__max_steps=2).num_steps == 2


def test_a_step_can_be_counted_in_tokens():
    assert seen(rows([20] * 19), train__tokens_per_step=100).steps_per_epoch == 4


def test_evaluations_go_by_the_recipe():
    some = rows([20] * 19, held=[20, 30])
    assert seen(some).num_evaluations == 3
    by_steps = {"train__eval_strategy": "steps", "train__load_best_model_at_end": False}
    assert seen(some, **by_steps, train__eval_steps=4).num_evaluations == 2
    assert seen(rows([20] * 19)).num_evaluations == 0


def test_answers_that_max_length_cuts_are_counted():
    assert seen(rows([20, 30, 40]), prepare__max_length=25).num_cut == 2


def test_no_row_left_is_an_error():
    with pytest.raises(DataError, match="no row is left"):
        seen(rows([100]), prepare__max_length=40)


def test_a_changed_setting_is_checked_like_a_written_one():
    assert with_settings(RECIPE, {"train.seed": 7}).train.seed == 7
    with pytest.raises(ValueError, match="exclude each other"):
        with_settings(RECIPE, {"model.load_in_8bit": True, "model.load_in_4bit": True})


def test_the_length_that_a_share_keeps_to_is_a_multiple_of_8():
    some = rows(range(1, 101))
    assert percentile_length(some, 0.5) == 56  # row 51 of 100, rounded up
    assert percentile_length(some, 0.9) == 96


@pytest.mark.parametrize(
    ("device", "bf16", "dtype"),
    [
        ("cpu", "auto", torch.float32),
        ("cuda", "auto", torch.bfloat16),
        ("cpu", True, torch.bfloat16),
        ("cuda", False, torch.float32),
    ],
)
def test_the_type_of_the_base_goes_by_device_and_recipe(device, bf16, dtype, monkeypatch):
    monkeypatch.setattr(loading, "cpu_gain_of_bf16", lambda: 1.0)
    assert dtype_on(device, bf16) == dtype
