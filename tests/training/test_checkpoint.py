"""Checkpoints: sealed, verified before use, pruned only when it is safe."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from burnish.errors import TrainingError
from burnish.training import checkpoint

FILES = [
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "resume.json",
]


def lay(root, step):
    beside = root / checkpoint.INCOMPLETE / f"checkpoint-{step}"
    (beside / "inner").mkdir(parents=True)
    for name in FILES:
        (beside / name).write_text("weights")
    (beside / "inner" / "state.json").write_text("{}")
    return beside


def make(root, step):
    assert checkpoint.publish(lay(root, step), root)
    return root / f"checkpoint-{step}"


def names(root):
    return [p.name for p in checkpoint.checkpoints(root)]


def test_a_published_checkpoint_is_in_its_place_and_without_fault(tmp_path):
    folder = make(tmp_path, 4)
    assert checkpoint.fault(folder) is None
    entries = json.loads((folder / checkpoint.SEAL).read_text())
    assert sorted(entries) == sorted([*FILES, "inner/state.json"])
    assert entries["optimizer.pt"]["bytes"] == 7


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


HARMS = {
    "flip": flip,
    "truncate": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "empty": lambda p: p.write_bytes(b""),
    "delete": lambda p: p.unlink(),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", [*FILES, "inner/state.json", checkpoint.SEAL])
def test_every_harm_to_every_file_is_found(tmp_path, name, harm):
    folder = make(tmp_path, 4)
    HARMS[harm](folder / name)
    found = checkpoint.fault(folder)
    assert found is not None
    assert (name if name != checkpoint.SEAL else "") in found


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[]", b'{"optimizer.pt": 3}'])
def test_a_seal_that_is_none_is_found(tmp_path, text):
    folder = make(tmp_path, 4)
    (folder / checkpoint.SEAL).write_bytes(text)
    assert checkpoint.fault(folder) == "it has no readable seal"


@pytest.mark.parametrize(
    "name, what",
    [
        ("adapter_model.safetensors", "the weights"),
        ("optimizer.pt", "the optimizer's state"),
        ("scheduler.pt", "the scheduler's state"),
        ("rng_state.pth", "the state of the random numbers"),
        ("trainer_state.json", "the trainer's state"),
        ("resume.json", "its record"),
    ],
)
def test_a_sealed_folder_that_lacks_what_a_resume_needs_is_no_checkpoint(tmp_path, name, what):
    folder = lay(tmp_path, 4)
    (folder / name).unlink()
    checkpoint.seal(folder)
    assert checkpoint.fault(folder) == f"it does not hold {what}"


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path, monkeypatch):
    folder = make(tmp_path, 4)

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(checkpoint, "file_sha256", refuse)
    assert checkpoint.fault(folder) == "it can't be read (Input/output error)"


def test_a_checkpoint_that_does_not_read_back_is_told_and_not_safe(tmp_path, monkeypatch, capfd):
    original = checkpoint.replace_folder

    def bad_disk(beside, final):
        original(beside, final)
        flip(final / "optimizer.pt")

    monkeypatch.setattr(checkpoint, "replace_folder", bad_disk)
    assert not checkpoint.publish(lay(tmp_path, 4), tmp_path)
    said = capfd.readouterr().err
    assert "checkpoint-4: optimizer.pt is not as it was written, right after it was saved" in said


def test_checkpoints_are_ordered_by_number_and_other_folders_are_passed_over(tmp_path):
    for step in (9, 10, 100):
        make(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / ".checkpoint-5.previous").mkdir()
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert checkpoint.step_of(tmp_path / "checkpoint-100") == 100
    assert checkpoint.checkpoints(tmp_path / "nowhere") == []


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
        (tmp_path / f"checkpoint-{step}").mkdir()
    checkpoint.prune(tmp_path, keep=keep, best_step=best)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"checkpoint-{step}" for step in left]


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


def test_a_crash_while_pruning_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    for step in (1, 2):
        make(tmp_path, step)

    def crash(folder, **_):
        if folder.exists():
            (folder / "optimizer.pt").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.prune(tmp_path, keep=1, best_step=None)
    assert names(tmp_path) == ["checkpoint-2"]
    checkpoint.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_checkpoint_that_a_crash_took_away_while_replacing_it_comes_back(tmp_path):
    folder = make(tmp_path, 4)
    folder.rename(tmp_path / ".checkpoint-4.previous")
    lay(tmp_path, 4)
    checkpoint.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-4"]
    assert checkpoint.fault(folder) is None


def test_a_checkpoint_that_was_replaced_goes(tmp_path):
    make(tmp_path, 4)
    (tmp_path / ".checkpoint-4.previous").mkdir()
    checkpoint.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-4"]
    checkpoint.tidy(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "Disk quota exceeded"),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
            "writing failed, as on a full disk",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
            "writing failed, as on a full disk",
        ),
        (
            SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space" })'),
            "No space left on device",
        ),
    ],
)
def test_a_full_disk_is_one_message_whichever_library_met_it(tmp_path, error, said):
    make(tmp_path, 4)
    with (
        pytest.raises(TrainingError) as caught,
        checkpoint.writing(tmp_path / "checkpoint-8", tmp_path),
    ):
        raise error
    assert str(caught.value) == (
        f"{tmp_path}/checkpoint-8: it could not be written: {said}.\n"
        "  Make room, or see what is wrong with that disk, and run it again: it goes on from "
        "checkpoint-4."
    )


def test_without_a_checkpoint_the_message_says_that_it_starts_again(tmp_path):
    with pytest.raises(TrainingError) as caught, checkpoint.writing(tmp_path / "a", tmp_path):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.remedy.endswith("run it again: it starts again.")


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory"), SafetensorError("InvalidHeader"), KeyError("a")]
)
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)), checkpoint.writing(tmp_path / "a", tmp_path):
        raise error
