"""Checkpoints: sealed, verified before use, pruned only when it is safe."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.training import checkpoint


def make(root, step, text="weights"):
    beside = root / checkpoint.INCOMPLETE / f"checkpoint-{step}"
    (beside / "inner").mkdir(parents=True)
    (beside / "adapter.bin").write_text(text)
    (beside / "inner" / "state.json").write_text("{}")
    return checkpoint.publish(beside, root)


def names(root):
    return [p.name for p in checkpoint.checkpoints(root)]


def test_a_published_checkpoint_is_in_its_place_and_without_fault(tmp_path):
    folder = make(tmp_path, 4)
    assert folder == tmp_path / "checkpoint-4"
    assert checkpoint.fault(folder) is None
    entries = json.loads((folder / checkpoint.SEAL).read_text())
    assert sorted(entries) == ["adapter.bin", "inner/state.json"]
    assert entries["adapter.bin"]["bytes"] == 7


@pytest.mark.parametrize(
    "harm, problem",
    [
        (lambda f: (f / "adapter.bin").write_text("weightz"), "adapter.bin is not as it was"),
        (lambda f: (f / "adapter.bin").write_text("short"), "adapter.bin is not as it was"),
        (lambda f: (f / "inner" / "state.json").unlink(), "inner/state.json is missing"),
        (lambda f: (f / checkpoint.SEAL).unlink(), "no readable seal"),
        (lambda f: (f / checkpoint.SEAL).write_text("{"), "no readable seal"),
        (lambda f: (f / checkpoint.SEAL).write_bytes(b"\xff\xfe"), "no readable seal"),
        (lambda f: (f / checkpoint.SEAL).write_text("[]"), "no readable seal"),
        (lambda f: (f / checkpoint.SEAL).write_text('{"adapter.bin": 3}'), "no readable seal"),
    ],
)
def test_harm_to_a_checkpoint_is_found_and_named(tmp_path, harm, problem):
    folder = make(tmp_path, 4)
    harm(folder)
    assert problem in checkpoint.fault(folder)


def test_a_broken_newest_checkpoint_falls_back_to_the_one_before_with_a_warning(tmp_path, capfd):
    good, bad = make(tmp_path, 4), make(tmp_path, 10)
    (bad / "adapter.bin").write_text("weightz")
    assert checkpoint.last_good(tmp_path) == good
    said = capfd.readouterr().err
    assert "warning: checkpoint-10 can't be used: adapter.bin is not as it was written" in said


def test_no_checkpoint_is_good_in_an_empty_or_missing_folder(tmp_path):
    assert checkpoint.last_good(tmp_path) is None
    assert checkpoint.last_good(tmp_path / "nowhere") is None


def test_checkpoints_are_ordered_by_number_and_other_folders_are_passed_over(tmp_path):
    for step in (9, 10, 100):
        make(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / ".checkpoint-5.previous").mkdir()
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert checkpoint.step_of(tmp_path / "checkpoint-100") == 100


@pytest.mark.parametrize(
    "keep, best, left",
    [
        (None, None, [1, 2, 3, 4]),
        (1, None, [4]),
        (2, None, [3, 4]),
        (1, 2, [2, 4]),
        (2, 1, [1, 4]),
        (3, 1, [1, 3, 4]),
        (9, 1, [1, 2, 3, 4]),
        (1, 4, [4]),
    ],
)
def test_pruning_keeps_the_best_and_the_newest(tmp_path, keep, best, left):
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    checkpoint.prune(tmp_path, keep=keep, best_step=best)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


@given(
    steps=st.sets(st.integers(1, 50), min_size=1, max_size=8),
    keep=st.integers(1, 5),
    data=st.data(),
)
def test_pruning_never_takes_best_or_newest_and_never_leaves_too_many(
    tmp_path_factory, steps, keep, data
):
    root = tmp_path_factory.mktemp("prune")
    for step in steps:
        (root / f"checkpoint-{step}").mkdir()
    best = data.draw(st.sampled_from(sorted(steps)))
    checkpoint.prune(root, keep=keep, best_step=best)
    left = {checkpoint.step_of(p) for p in checkpoint.checkpoints(root)}
    assert {best, max(steps)} <= left
    assert len(left) == min(len(steps), max(keep, len({best, max(steps)})))
