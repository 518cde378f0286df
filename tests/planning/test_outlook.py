import dataclasses

import numpy as np
import pytest
import torch

from burnish.errors import DataError
from burnish.models import loading
from burnish.planning.memory import Place
from burnish.planning.outlook import dtype_on, outlook, percentile_length, with_settings
from burnish.planning.rows import Rows
from tests.conftest import tiny_llama
from tests.planning.made_up import RECIPE, outlook_of, own_forward, recipe_with, records


def rows(lengths, held=(), *, looked_at=None):
    values, other = np.array(lengths), np.array(held, dtype=np.int64)
    shapes = [(n, n // 2) for n in lengths]
    return Rows(
        values,
        values // 2,
        other,
        other // 2,
        records=records(*shapes[:looked_at]),
        held_records=records(*[(n, n // 2) for n in held]),
        source="made up",
        estimated=False,
    )


def seen(some, *, room=None, **changes):
    recipe, config = recipe_with(**changes), tiny_llama(100).config
    return outlook(recipe, config, some, Place("cpu", 0.5, room), own_forward(config, **changes))


def test_steps_go_by_records_and_epochs():
    # 8 records a step make 3 steps of 19, three epochs 9.
    found = seen(rows([20] * 19))
    assert len(found.training.batches) == 3  # packed: 160, 160 and 60 tokens
    assert sorted(found.training.lengths) == [60, 160, 160]
    assert (found.steps_per_epoch, found.num_steps) == (3, 9)


def test_max_steps_takes_precedence():
    assert seen(rows([20] * 19), train__max_steps=2).num_steps == 2


def test_a_step_can_be_counted_in_tokens():
    assert seen(rows([20] * 19), train__tokens_per_step=100).steps_per_epoch == 4


def test_evaluations_go_by_the_recipe():
    some = rows([20] * 19, held=[20, 30])
    assert seen(some).num_evaluations == 3
    by_steps = {"train__eval_strategy": "steps", "train__load_best_model_at_end": False}
    assert seen(some, **by_steps, train__eval_steps=4).num_evaluations == 3  # 4, 8, 9
    assert seen(rows([20] * 19)).num_evaluations == 0


def test_a_part_of_a_step_or_of_an_epoch_counts_as_the_trainer_counts_it():
    # 25 records make 4 steps; half of that epoch 2, and of an epoch of 3 steps also 2.
    assert seen(rows([20] * 25), train__num_train_epochs=0.5).num_steps == 2
    assert seen(rows([20] * 19), train__num_train_epochs=0.5).num_steps == 2
    assert seen(rows([20] * 19), train__num_train_epochs=1.1).num_steps == 4


def test_checkpoints_go_by_the_recipe():
    some = rows([20] * 19, held=[20])
    assert seen(some).num_checkpoints == 3
    plain = {"train__load_best_model_at_end": False, "train__save_steps": 4}
    assert seen(some, **plain, train__save_strategy="steps").num_checkpoints == 3
    assert seen(some, **plain, train__save_strategy="no").num_checkpoints == 0


def test_the_records_that_were_looked_at_stand_for_all_by_their_tokens():
    # 8 of 16 records of 20 tokens.
    found = seen(rows([20] * 16, looked_at=8))
    assert found.training.share == 0.5
    assert found.training.whole(found.training.lengths) == 320
    assert found.steps_per_epoch == 2


def test_answers_that_max_length_cuts_are_counted():
    assert seen(rows([20, 30, 40]), prepare__max_length=25).num_cut == 2


def test_no_row_left_is_an_error():
    with pytest.raises(DataError, match="no row is left"):
        seen(rows([100]), prepare__max_length=40)


def test_what_is_as_large_as_the_room_fits():
    peak = seen(rows([20] * 8)).memory.peak
    assert seen(rows([20] * 8)).fits  # nobody knows the room
    assert seen(rows([20] * 8), room=peak, train__gradient_checkpointing=False).fits
    assert not seen(rows([20] * 8), room=0.9 * peak).fits


@pytest.mark.parametrize(("host", "fits"), [(None, True), (2.0, True), (1.9, False)])
def test_what_is_offloaded_must_fit_the_host(host, fits):
    found = outlook_of(RECIPE, 3.0, room=4.0)
    found = dataclasses.replace(
        found,
        place=dataclasses.replace(found.place, host_gib=host),
        memory=found.memory.model_copy(update={"offloaded": 2.0}),
    )
    assert found.fits == fits


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
