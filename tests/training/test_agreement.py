"""What a checkpoint is made from: what counts as a change, and what does not."""

from __future__ import annotations

import pytest
from datasets import Dataset

from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir
from burnish.training.agreement import (
    ROUNDING_ONLY,
    WITHOUT_EFFECT,
    agreement,
    differences,
    machine,
    rows_sha256,
    tell,
    ways_to_name,
)


def save(folder, ids, labels=None, **more):
    rows = {"input_ids": ids, "labels": labels or ids, **more}
    Dataset.from_dict(rows).save_to_disk(str(folder))
    return folder


def run_with_rows(folder, ids=((1, 2), (3,))):
    run = RunDir(folder)
    for name in ("train", "validation"):
        save(run.split(name), [list(row) for row in ids])
    run.prompts.write_text("{}")
    return run


def test_rows_count_by_their_ids_and_labels_alone(tmp_path):
    first = rows_sha256(save(tmp_path / "a", [[1, 2], [3]]))
    same = save(tmp_path / "b", [[1, 2], [3]], origin=["x:1", "x:2"])
    assert rows_sha256(same) == first


@pytest.mark.parametrize(
    "ids, labels",
    [
        ([[1, 2], [4]], [[1, 2], [3]]),
        ([[1, 2], [3]], [[1, -100], [3]]),
        ([[1], [2, 3]], [[1], [2, 3]]),  # the same ids in other rows
        ([[3], [1, 2]], [[3], [1, 2]]),
    ],
)
def test_other_ids_labels_rows_or_order_are_other_rows(tmp_path, ids, labels):
    first = rows_sha256(save(tmp_path / "a", [[1, 2], [3]]))
    assert rows_sha256(save(tmp_path / "b", ids, labels)) != first


def test_no_rows_have_a_hash_too(tmp_path):
    rows = Dataset.from_dict({"input_ids": [[1]], "labels": [[1]]}).select([])
    rows.save_to_disk(str(tmp_path / "none"), num_shards=1)
    assert len(rows_sha256(tmp_path / "none")) == 64


def test_all_that_is_trained_on_is_named(tmp_path, tiny_model):
    model = ModelSection(name_or_path=str(tiny_model))
    now = agreement(model, TrainSection(), run_with_rows(tmp_path))
    assert {"data.train", "data.validation", "rendering", "model.files"} <= now.keys()
    assert (now["learning_rate"], now["lora.r"], now["model.load_in_4bit"]) == (2e-4, 16, False)
    assert now["examples_per_step"] == 8
    assert not WITHOUT_EFFECT & now.keys()


def test_batches_of_other_shape_and_the_same_size_are_the_same(tmp_path, tiny_model):
    model, run = ModelSection(name_or_path=str(tiny_model)), run_with_rows(tmp_path)
    sections = [
        TrainSection(per_device_train_batch_size=size, gradient_accumulation_steps=steps)
        for size, steps in ((4, 2), (2, 4), (2, 2))
    ]
    first, same, other = [agreement(model, section, run) for section in sections]
    assert differences(first, same) == []
    assert differences(first, other) == ["examples_per_step"]


def test_a_change_of_the_rendering_or_of_the_rows_is_found(tmp_path, tiny_model):
    model = ModelSection(name_or_path=str(tiny_model))
    run = run_with_rows(tmp_path / "a")
    before = agreement(model, TrainSection(), run)
    run.prompts.write_text('{"other": 1}')
    assert differences(before, agreement(model, TrainSection(), run)) == ["rendering"]
    other = run_with_rows(tmp_path / "b", ids=((1, 2), (4,)))
    assert differences(before, agreement(model, TrainSection(), other)) == [
        "data.train",
        "data.validation",
    ]


def test_a_setting_that_did_not_exist_yet_had_its_default():
    assert differences({}, {"learning_rate": 2e-4}) == []
    assert differences({}, {"learning_rate": 1e-4}) == ["learning_rate"]


def test_a_setting_that_exists_no_more_is_no_difference():
    assert differences({"old": 1}, {}) == []


def test_a_name_that_was_taken_out_of_a_setting_of_free_names_is_a_difference():
    then = {"lr_scheduler_kwargs.min_lr_rate": 0.1, "optim_args.rank": 8}
    now = {"optim_args.rank": 8}
    assert differences(then, now) == ["lr_scheduler_kwargs.min_lr_rate"]
    assert differences(now, then) == ["lr_scheduler_kwargs.min_lr_rate"]


def test_a_difference_is_told_with_both_values():
    then, now = {"lora.r": 4, "model.load_in_4bit": True}, {"lora.r": 8}
    assert tell("lora.r", then, now) == "train.lora.r was 4, is 8"
    assert tell("model.load_in_4bit", then, now) == "model.load_in_4bit was True, is None"
    assert tell("data.train", {"data.train": "a1"}, {}) == "the training rows changed"


def test_a_difference_can_be_named_by_its_section():
    assert ways_to_name("lora.r") == ["lora", "lora.r"]
    assert ways_to_name("learning_rate") == ["learning_rate"]


def test_the_settings_that_are_told_apart_exist():
    known = set(TrainSection.model_fields) | {f"model.{n}" for n in ModelSection.model_fields}
    assert known >= WITHOUT_EFFECT | ROUNDING_ONLY


def test_what_decides_the_last_bits_is_noted():
    noted = machine(dtype="float32", backend="fast", processes=1, threads=2, device="cpu AVX512")
    assert noted["threads"] == 2
    assert noted["torch"].startswith("2.")
    assert list(noted)[:3] == ["torch", "transformers", "peft"]
