"""Which checkpoint a run goes on from, and when it is refused."""

from __future__ import annotations

import json

import pytest
import torch

from burnish.errors import RecipeError, TrainingError
from burnish.recipe import TrainSection
from burnish.training import checkpoint
from burnish.training.agreement import WEIGHTS
from burnish.training.starting_point import (
    Start,
    check_weights,
    checksums,
    find_start,
    pinned,
    warn_of_other_machine,
)
from tests.training.test_checkpoint import FILES, HARMS, flip

MADE_FROM = {"learning_rate": 2e-4, "lora.r": 16, "data.train": "a1", "row_length": 1024}
MACHINE = {"dtype": "float32", "backend": "fast", "threads": 2}


def make(root, step, *, best=None, made_from=MADE_FROM):
    folder = root / checkpoint.INCOMPLETE / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("weights")
    record = {"made_from": made_from, "machine": MACHINE, "best_step": best, "weights": {}}
    (folder / checkpoint.RECORD).write_text(json.dumps(record))
    assert checkpoint.publish(folder, root)
    return root / folder.name


def find(root, *, now=MADE_FROM, **settings):
    return find_start(root, now, TrainSection(**settings))


def test_the_newest_whole_checkpoint_is_taken(tmp_path):
    make(tmp_path, 4)
    newest = make(tmp_path, 10)
    start = find(tmp_path)
    assert (start.folder, start.step, start.changed, start.keeps_best) == (newest, 10, (), True)


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path, capfd):
    assert find(tmp_path) is None
    assert find(tmp_path / "nowhere") is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", [*FILES, checkpoint.SEAL])
def test_a_harmed_newest_checkpoint_falls_back_to_the_one_before(tmp_path, name, harm, capfd):
    make(tmp_path, 4)
    HARMS[harm](make(tmp_path, 10) / name)
    assert find(tmp_path).step == 4
    said = capfd.readouterr().err
    assert "warning: checkpoint-10 can't be used" in said
    assert "going back to the one before" in said


def test_if_none_is_whole_training_begins_again_and_says_so(tmp_path, capfd):
    flip(make(tmp_path, 4) / "optimizer.pt")
    assert find(tmp_path) is None
    assert "no checkpoint can be used: training begins again" in capfd.readouterr().err


def test_a_checkpoint_whose_best_one_is_harmed_is_passed_over(tmp_path, capfd):
    make(tmp_path, 2, best=2)
    flip(make(tmp_path, 4, best=4) / "adapter_model.safetensors")
    make(tmp_path, 6, best=4)
    start = find(tmp_path)
    assert (start.step, start.keeps_best) == (2, True)
    assert "checkpoint-6 can't be used: the best so far is checkpoint-4, and" in (
        capfd.readouterr().err
    )


def test_if_all_others_are_gone_too_the_run_goes_on_without_its_best(tmp_path, capfd):
    flip(make(tmp_path, 4, best=4) / "adapter_model.safetensors")
    make(tmp_path, 6, best=4)
    start = find(tmp_path)
    assert (start.step, start.keeps_best) == (6, False)
    assert "the best adapter so far is lost: going on from checkpoint-6" in capfd.readouterr().err


def test_the_best_does_not_matter_where_the_last_is_kept(tmp_path):
    flip(make(tmp_path, 4, best=4) / "adapter_model.safetensors")
    make(tmp_path, 6, best=4)
    start = find(tmp_path, load_best_model_at_end=False)
    assert (start.step, start.keeps_best) == (6, True)


@pytest.mark.parametrize(
    "change, told, name",
    [
        ({"learning_rate": 1e-4}, "train.learning_rate was 0.0002, is 0.0001", "learning_rate"),
        ({"lora.r": 8}, "train.lora.r was 16, is 8", "lora.r"),
        ({"data.train": "b2"}, "the training rows changed", "data.train"),
    ],
)
def test_a_run_made_from_something_else_is_refused_and_told_in_what(tmp_path, change, told, name):
    folder = make(tmp_path, 4)
    with pytest.raises(TrainingError) as caught:
        find(tmp_path, now=MADE_FROM | change)
    assert caught.value.where == str(folder)
    assert caught.value.problem == f"this run can't go on from there: {told}."
    assert f"--set train.allow_changed=[{name}]" in caught.value.remedy
    assert "burnish train RECIPE --force" in caught.value.remedy
    assert folder.is_dir()


def test_the_remedy_can_be_pasted_and_keeps_what_was_allowed_already(tmp_path):
    make(tmp_path, 4)
    change = MADE_FROM | {"learning_rate": 1e-4, "lora.r": 8, "data.train": "b2"}
    with pytest.raises(TrainingError) as caught:
        find(tmp_path, now=change, allow_changed=["data"])
    option = "train.allow_changed=[data,learning_rate,lora.r]"
    assert f"add --set {option}." in caught.value.remedy
    names = option.partition("[")[2].rstrip("]").split(",")
    assert find(tmp_path, now=change, allow_changed=names).step == 4


def test_a_setting_that_was_taken_out_is_refused_and_can_be_allowed(tmp_path):
    name = "lr_scheduler_kwargs.min_lr_rate"
    make(tmp_path, 4, made_from=MADE_FROM | {name: 0.1})
    with pytest.raises(TrainingError, match=f"train.{name} was 0.1, is None"):
        find(tmp_path)
    for allowed in (name, "lr_scheduler_kwargs"):
        assert find(tmp_path, allow_changed=[allowed]).changed == (name,)


@pytest.mark.parametrize(
    "change, allowed",
    [
        ({"learning_rate": 1e-4}, ["learning_rate"]),
        ({"lora.r": 8}, ["lora"]),
        ({"data.train": "b2", "learning_rate": 1e-4}, ["data", "learning_rate"]),
    ],
)
def test_a_change_that_the_recipe_allows_by_name_is_taken_and_said(
    tmp_path, change, allowed, capfd
):
    make(tmp_path, 4)
    start = find(tmp_path, now=MADE_FROM | change, allow_changed=allowed)
    assert set(start.changed) == set(change)
    assert capfd.readouterr().err.count("the run goes on, as allowed") == len(change)


def test_what_changes_only_the_rounding_needs_no_leave(tmp_path, capfd):
    make(tmp_path, 4)
    start = find(tmp_path, now=MADE_FROM | {"row_length": 512})
    assert start.changed == ("row_length",)
    assert (
        "train.row_length was 1024, is 512: the run goes on, the same but for rounding"
        in capfd.readouterr().err
    )


def test_allowing_what_there_is_not_is_an_error_of_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"train\.allow_changed: 'learing_rate' is nothing"):
        find(tmp_path, allow_changed=["learing_rate"])


def test_the_weights_of_the_base_can_be_allowed_to_change(tmp_path):
    assert find(tmp_path, allow_changed=["model"]) is None


def start_with(tmp_path, **record):
    return Start(tmp_path / "checkpoint-4", {"machine": MACHINE, "weights": {}} | record)


def test_auto_becomes_what_it_came_to_when_the_run_began(tmp_path):
    auto = TrainSection(bf16="auto", backend="auto")
    assert pinned(auto, None) == auto
    fast = pinned(auto, start_with(tmp_path))
    assert (fast.bf16, fast.backend) == (False, "auto")
    plain = {"dtype": "bfloat16", "backend": "transformers"}
    own = pinned(auto, start_with(tmp_path, machine=plain))
    assert (own.bf16, own.backend) == (True, "transformers")
    asked = TrainSection(bf16=True, backend="fast")
    assert pinned(asked, start_with(tmp_path)) == asked


def test_another_machine_is_told(tmp_path, capfd):
    start = start_with(tmp_path)
    warn_of_other_machine(start, MACHINE)
    assert capfd.readouterr().err == ""
    warn_of_other_machine(start, MACHINE | {"threads": 4})
    assert "(threads 2 -> 4): the run goes on, but not bit for bit" in capfd.readouterr().err


def test_weights_that_are_not_what_was_saved_stop_the_run(tmp_path):
    start = start_with(tmp_path, weights={"trained": {"a": 1, "b": 2}})
    check_weights(start, "trained", {"a": 1, "b": 2}, TrainSection())
    for found in ({"a": 1, "b": 3}, {"a": 1}):
        with pytest.raises(TrainingError, match="after loading it, b is not what was saved"):
            check_weights(start, "trained", found, TrainSection())


def test_another_base_is_refused_unless_it_is_allowed(tmp_path):
    start = start_with(tmp_path, weights={WEIGHTS: {"a": 1}})
    with pytest.raises(TrainingError, match="the weights of the base model changed, a to begin"):
        check_weights(start, WEIGHTS, {"a": 2}, TrainSection())
    for allowed in ("model", WEIGHTS, "bf16"):
        check_weights(start, WEIGHTS, {"a": 2}, TrainSection(allow_changed=[allowed]))


def test_a_checksum_is_the_sum_of_the_bits():
    named = [
        ("float", torch.tensor([1.0, 2.0])),
        ("half", torch.tensor([1.0], dtype=torch.bfloat16)),
        ("byte", torch.tensor([3, 4], dtype=torch.uint8)),
        ("double", torch.tensor([1.0], dtype=torch.float64)),
        ("elsewhere", torch.empty(2, device="meta")),
    ]
    assert checksums(named) == {
        "float": 0x3F800000 + 0x40000000,
        "half": 0x3F80,
        "byte": 7,
        "double": 0x3FF0000000000000,
    }
    assert checksums([("a", torch.tensor([float("nan")]))])["a"] != 0
