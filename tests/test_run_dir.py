import json
import os
from pathlib import Path

import pytest

from burnish.errors import RunError
from burnish.run_dir import (
    FOLDERS,
    RunDir,
    digest,
    outputs_digest,
    replace_folder,
    write_json,
    write_jsonl,
    write_text,
)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_appear_whole_with_their_folders_and_leave_nothing_beside(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "一\r\n")
    write_json(tmp_path / "a" / "c.json", {"k": "一"})
    write_jsonl(tmp_path / "a" / "d.jsonl", [{"k": "一"}, {"k": "\ud83d"}])
    assert names(tmp_path) == ["a", "a/b.txt", "a/c.json", "a/d.jsonl"]
    assert (tmp_path / "a/b.txt").read_bytes() == "一\r\n".encode()
    assert (tmp_path / "a/c.json").read_text("utf-8") == '{\n  "k": "一"\n}\n'
    assert (tmp_path / "a/d.jsonl").read_text("utf-8") == '{"k": "一"}\n{"k": "\\ud83d"}\n'


def test_a_file_stays_as_it_was_when_its_rows_fail(tmp_path):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"n": 1}])

    def rows():
        yield {"n": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, rows())
    assert path.read_text() == '{"n": 1}\n'


def test_a_fresh_folder_replaces_the_old_one_only_when_all_went_well(tmp_path):
    run = RunDir(tmp_path)
    with run.fresh("clean") as folder:
        (folder / "a").write_text("1")
    assert names(run.folder("clean")) == ["a"]
    with pytest.raises(ZeroDivisionError), run.fresh("clean") as folder:  # noqa: PT012
        (folder / "b").write_text("2")
        raise ZeroDivisionError
    assert names(tmp_path) == ["1-clean", "1-clean/a"]
    with run.fresh("clean") as folder:
        (folder / "b").write_text("2")
    assert names(tmp_path) == ["1-clean", "1-clean/b"]


def test_what_a_crash_left_behind_is_cleared_away(tmp_path):
    run = RunDir(tmp_path)
    (tmp_path / ".1-clean.incomplete").mkdir()
    (tmp_path / ".1-clean.incomplete" / "half").write_text("x")
    (tmp_path / ".1-clean.previous").mkdir()
    with run.fresh("clean") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path) == ["1-clean", "1-clean/a"]


def test_a_folder_takes_the_place_of_one_that_is_not_there(tmp_path):
    (tmp_path / "new").mkdir()
    replace_folder(tmp_path / "new", tmp_path / "final")
    assert names(tmp_path) == ["final"]


def test_a_run_folder_is_held_by_one_command(tmp_path):
    run = RunDir(tmp_path / "run")
    with run.locked():
        with pytest.raises(RunError) as caught, RunDir(tmp_path / "run").locked():
            pass
        assert str(caught.value) == (
            f"{tmp_path}/run: another burnish is at work in this run folder.\n"
            "  Wait for it, or choose another folder with --set run_dir=PATH."
        )
    with run.locked():
        pass


def test_a_file_can_be_no_run_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError) as caught, RunDir(tmp_path / "run").locked():
        pass
    assert str(caught.value) == (
        f"{tmp_path}/run: this can't be the run folder (File exists).\n"
        "  Choose another folder with --set run_dir=PATH."
    )


def test_a_run_folder_that_may_not_be_written_is_told(tmp_path, monkeypatch):
    def refuse(self, timeout):
        raise PermissionError(13, "Permission denied", self.lock_file)

    monkeypatch.setattr("burnish.run_dir.FileLock.acquire", refuse)
    with pytest.raises(RunError) as caught, RunDir(tmp_path / "run").locked():
        pass
    assert str(caught.value) == (
        f"{tmp_path}/run: this can't be the run folder (Permission denied).\n"
        "  Choose another folder with --set run_dir=PATH."
    )


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr("burnish.run_dir.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "new")
    assert caught.value.filename == str(path)
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_leaves_the_old_folder_and_names_it(tmp_path):
    run = RunDir(tmp_path)
    with run.fresh("clean") as folder:
        (folder / "a").write_text("1")
    with pytest.raises(OSError, match="No space") as caught, run.fresh("clean"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "1-clean")
    assert names(tmp_path) == ["1-clean", "1-clean/a"]


def test_the_manifest_keeps_stages_in_order_and_forgets_them(tmp_path):
    run = RunDir(tmp_path)
    assert run.read_manifest() == {"stages": {}}
    run.record("train", {"key": "t", "outputs": {}}, "recipe 1\n")
    run.record("clean", {"key": "c", "outputs": {}}, "recipe 2\n")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest["stages"]) == ["clean", "train"]
    assert (tmp_path / "recipe.yaml").read_text() == "recipe 2\n"
    run.forget("clean")
    run.forget("clean")
    assert run.read_manifest()["stages"] == {"train": {"key": "t", "outputs": {}}}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"{",
            "this is no manifest: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1).",
        ),
        (b"[]", "this is no manifest of burnish."),
        (b'{"stages": []}', "this is no manifest of burnish."),
        (b'{"stages": {"clean": {"outputs": {}}}}', "this is no manifest of burnish."),
        (b'{"stages": {"clean": {"key": "k"}}}', "this is no manifest of burnish."),
        (b'{"stages": {"clean": {"key": "k", "outputs": []}}}', "this is no manifest of burnish."),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path, content, problem):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        RunDir(tmp_path).read_manifest()
    assert str(caught.value) == (
        f"{tmp_path}/manifest.json: {problem}\n  Delete the file to run all again."
    )


def test_outputs_are_hashed_and_changes_in_them_are_seen(tmp_path):
    run = RunDir(tmp_path)
    write_text(run.adapter / "weights", "abc")
    write_text(run.checkpoints / "checkpoint-1" / "weights", "comes and goes")
    outputs = run.outputs("train")
    assert list(outputs) == ["adapter/weights"]
    entry = outputs["adapter/weights"]
    assert entry["bytes"] == 3
    assert entry["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert run.intact("train", outputs)

    path = run.adapter / "weights"
    os.utime(path, ns=(1, 1))  # touched, with the same content
    assert run.intact("train", outputs)
    path.write_text("abd")
    os.utime(path, ns=(1, 1))
    assert not run.intact("train", outputs)
    path.write_text("abcd")
    assert not run.intact("train", outputs)
    path.unlink()
    assert not run.intact("train", outputs)


def test_digests_do_not_depend_on_the_order_of_keys_or_on_times():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    assert digest("a\udcff.csv") != digest("a\udcfe.csv")  # names of files that are no UTF-8
    one = {"f": {"bytes": 1, "mtime_ns": 1, "sha256": "x"}}
    two = {"f": {"bytes": 1, "mtime_ns": 2, "sha256": "x"}}
    assert outputs_digest(one) == outputs_digest(two)


def test_every_stage_has_a_numbered_folder():
    assert [name[0] for name in FOLDERS.values()] == list("123456")
    run = RunDir(Path("run"))
    assert run.merged == Path("run/5-merge/model")
    assert run.split("test") == Path("run/2-prepare/test")


def test_what_training_made_is_the_adapter_or_a_whole_model(tmp_path):
    run = RunDir(tmp_path)
    assert run.trained == run.adapter == tmp_path / "3-train" / "adapter"
    run.trained_model.mkdir(parents=True)
    assert run.trained == tmp_path / "3-train" / "model"
