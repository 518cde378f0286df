"""The stages in order: what is run, skipped and run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from burnish import pipeline
from burnish.errors import BurnishError, DataError, RunError, TrainingError
from burnish.pipeline import STAGE_BY_NAME, require, run, run_stage
from burnish.progress import warn
from burnish.recipe import DataSection, ModelSection, Recipe, Source
from burnish.recipe_file import load_recipe
from burnish.run_dir import FOLDERS, RunDir
from tests.conftest import alpaca_rows, write_recipe

ALL = ["clean", "prepare", "train", "evaluate", "merge", "quantize"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """A folder with a recipe, its data and a finished run; never written to."""
    folder = tmp_path_factory.mktemp("finished")
    text = (
        f"model: {{{{name_or_path: {tiny_model}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        "prepare: {{max_length: 128, validation_size: 0.2, test_size: 0.2}}\n"
        "train: {{num_train_epochs: 1, learning_rate: 1e-2, lora: {{r: 2}}}}\n"
        "evaluate: {{num_answers: 1, max_new_tokens: 4}}\n"
        "quantize: {{num_samples: 4, group_size: 32}}\n"
    )
    path = write_recipe(folder, text)
    run(load_recipe(path, [f"run_dir={folder / 'run'}"]))
    return folder


@pytest.fixture
def again(finished, tmp_path):
    """Loads the recipe of a copy of the finished run, with settings changed."""
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy2(finished / "rows.json", tmp_path / "rows.json")

    def load(*overrides):
        same = ["data.sources[0].path=" + str(finished / "rows.json")]
        return load_recipe(
            finished / "recipe.yaml", [f"run_dir={tmp_path / 'run'}", *same, *overrides]
        )

    return load


def ran(capfd):
    """The stages that the text on stderr says were run."""
    lines = capfd.readouterr().err.splitlines()
    found = [line.partition(": ") for line in lines]
    return [name for name, _, what in found if name in ALL and not what.startswith("unchanged")]


def test_every_stage_of_the_tiny_recipe_runs_and_a_second_run_does_nothing(tiny_recipe, capfd):
    first = run(tiny_recipe)
    assert list(first) == ALL == list(STAGE_BY_NAME)
    assert first["clean"]["num_kept"] == 40
    capfd.readouterr()
    assert run(tiny_recipe) == first
    assert capfd.readouterr().err.count("not run again") == 6


@pytest.mark.parametrize(
    "override, expected",
    [
        ("serve.port=9000", []),
        ("serve.artifact=quantized", []),
        ("quantize.bits=8", ["quantize"]),
        ("merge.dtype=bfloat16", ["merge", "quantize"]),
        ("evaluate.num_answers=2", ["evaluate"]),
        ("train.learning_rate=2e-2", ["train", "evaluate", "merge", "quantize"]),
        ("train.lora.r=4", ["train", "evaluate", "merge", "quantize"]),
        ("prepare.seed=1", ["prepare", "train", "evaluate", "merge", "quantize"]),
        # Cleaning runs again, but what it writes is the same, so nothing after it does.
        ("clean.squeeze_marks=false", ["clean"]),
    ],
)
def test_a_changed_setting_runs_its_stage_and_what_follows(again, capfd, override, expected):
    capfd.readouterr()
    run(again(override))
    assert ran(capfd) == expected
    run(again(override))
    assert ran(capfd) == []


def test_an_edited_data_file_is_noticed(finished, again, tmp_path, capfd):
    path = tmp_path / "rows.json"
    same = f"data.sources[0].path={path}"
    run(again(same))  # another path with the same content: origins differ
    assert "clean" in ran(capfd)
    path.write_text(json.dumps([*alpaca_rows(40), {"instruction": "New?", "output": "Yes."}]))
    assert run(again(same))["clean"]["num_kept"] == 41
    assert ran(capfd) == ALL


@pytest.mark.parametrize("name", ["data/runs/a", "data/./runs/../a"])
def test_a_run_folder_within_its_source_does_not_change_the_source(tmp_path, name):
    run_path = tmp_path / name
    (tmp_path / "data" / "runs").mkdir(parents=True)
    (tmp_path / "data" / "rows.json").write_text("[]")

    def hashes():
        sources = [str(tmp_path / "data"), str(tmp_path / "data" / "**" / "*.json")]
        return [pipeline._content_hash(source, run_path) for source in sources]

    before = hashes()
    assert None not in before
    run_path.mkdir()
    (run_path / "manifest.json").write_text("{}")
    assert hashes() == before
    (tmp_path / "data" / "more.json").write_text("[]")
    assert not set(hashes()) & set(before)


def test_a_source_folder_may_hold_names_that_are_no_utf8(tmp_path, capfd):
    (tmp_path / "data").mkdir()
    try:
        (tmp_path / "data" / os.fsdecode(b"a\xff.json")).write_text(json.dumps(alpaca_rows(4)))
    except OSError:
        pytest.skip("this file system takes no such names")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"run_dir: {tmp_path}/run\ndata: {{sources: [{{path: {tmp_path}/data}}]}}\n")
    assert run_stage("clean", load_recipe(recipe))["num_kept"] == 4
    run_stage("clean", load_recipe(recipe))
    assert ran(capfd) == ["clean"]


@pytest.mark.parametrize("note", [b"\xff\x00", b"", b"another key"])
def test_what_an_interrupted_stage_left_goes_unless_its_note_says_the_same_key(tmp_path, note):
    def left():
        pipeline._keep_or_clear(tmp_path, "the key", unfinished=".", force=False)
        return sorted(path.name for path in tmp_path.iterdir())

    (tmp_path / ".key").write_text("the key")
    (tmp_path / "half").write_text("")
    assert left() == [".key", "half"]
    (tmp_path / ".key").write_bytes(note)
    assert left() == [".key"]
    assert (tmp_path / ".key").read_text() == "the key"


def test_only_what_is_unfinished_goes_where_a_stage_writes_beside(tmp_path):
    (tmp_path / ".key").write_text("old")
    (tmp_path / "parts").mkdir()
    (tmp_path / "result").write_text("")
    pipeline._keep_or_clear(tmp_path, "new", unfinished="parts", force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".key", "result"]
    assert (tmp_path / ".key").read_text() == "new"


def test_checkpoints_of_an_interrupted_run_stay_whatever_the_key_for_a_stage_that_judges(tmp_path):
    def left(**how):
        pipeline._keep_or_clear(tmp_path, "new", unfinished=".", **how)
        return sorted(path.name for path in tmp_path.iterdir())

    (tmp_path / ".key").write_text("old")
    (tmp_path / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    assert left(force=False, judges=True) == [".key", "checkpoints"]
    (tmp_path / ".key").write_text("old")
    assert left(force=False) == [".key"]
    (tmp_path / "checkpoints" / ".incomplete").mkdir(parents=True)
    (tmp_path / ".key").write_text("old")
    assert left(force=False, judges=True) == [".key"]
    (tmp_path / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    assert left(force=True, judges=True) == [".key"]


def test_an_interrupted_run_with_a_changed_recipe_is_refused_and_keeps_its_checkpoints(
    again, monkeypatch, tmp_path
):
    from burnish.training import train as training

    whole = training.go

    def crashes_behind(*arguments):
        whole(*arguments)
        raise _Crash

    with monkeypatch.context() as patch:
        patch.setattr(training, "go", crashes_behind)
        with pytest.raises(_Crash):
            run_stage("train", again(), force=True)
    checkpoints = tmp_path / "run" / FOLDERS["train"] / "checkpoints"
    before = sorted(checkpoints.iterdir())
    assert before
    changed = again("train.learning_rate=2e-2")
    with pytest.raises(TrainingError, match=r"train\.learning_rate was 0\.01, is 0\.02"):
        run_stage("train", changed)
    assert sorted(checkpoints.iterdir()) == before
    assert run_stage("train", changed, force=True)["steps"] == 3


def test_a_data_file_that_is_only_touched_changes_nothing(again, finished, capfd):
    (finished / "rows.json").touch()
    run(again())
    assert ran(capfd) == []


@pytest.mark.parametrize(
    "stage, name",
    [
        ("clean", "conversations.jsonl"),
        ("prepare", "summary.json"),
        ("train", "adapter/adapter_model.safetensors"),
        ("evaluate", "answers.csv"),
        ("merge", "model/model.safetensors"),
        ("quantize", "gate.json"),
    ],
)
@pytest.mark.parametrize("harm", ["deleted", "altered"])
def test_harm_to_an_output_is_mended_by_running_that_stage_alone(
    again, finished, tmp_path, capfd, stage, name, harm
):
    path = tmp_path / "run" / FOLDERS[stage] / name
    before = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    run(again())
    assert ran(capfd) == [stage]
    assert path.read_bytes() == before


def test_force_runs_every_stage_again(again, capfd):
    run(again(), force=True)
    assert ran(capfd) == ALL


def test_force_on_one_verb_runs_it_alone(again, capfd):
    run_stage("merge", again(), force=True)
    assert ran(capfd) == ["merge"]


def test_a_verb_runs_only_its_own_stage(again, capfd):
    run_stage("evaluate", again("evaluate.num_answers=3", "merge.dtype=float16"))
    assert ran(capfd) == ["evaluate"]


def test_a_verb_whose_ancestor_was_not_run_is_refused(tiny_recipe):
    with pytest.raises(RunError, match="clean has not been run here yet") as caught:
        run_stage("train", tiny_recipe)
    assert "burnish clean RECIPE" in caught.value.remedy
    assert "burnish run RECIPE" in caught.value.remedy


@pytest.mark.parametrize(
    "verb, override, stale",
    [
        ("prepare", "clean.strip_html=false", "clean"),
        ("train", "prepare.seed=1", "prepare"),
        ("merge", "train.learning_rate=1e-3", "train"),
        ("quantize", "train.learning_rate=1e-3", "train"),
        ("quantize", "merge.dtype=float16", "merge"),
    ],
)
def test_a_verb_whose_ancestor_is_stale_is_refused(again, capfd, verb, override, stale):
    with pytest.raises(RunError, match=f"settings of {stale} have changed since it was run"):
        run_stage(verb, again(override))
    assert ran(capfd) == []


def test_a_verb_whose_ancestors_files_are_harmed_is_refused(again, tmp_path):
    (tmp_path / "run" / FOLDERS["train"] / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(RunError, match="files of train are missing or changed"):
        run_stage("merge", again())


def test_require_gives_the_folder_of_a_stage_that_is_done(again, tmp_path):
    assert require("quantize", again()) == RunDir(tmp_path / "run")
    with pytest.raises(RunError, match="settings of merge have changed"):
        require("merge", again("merge.dtype=float16"))
    (tmp_path / "run" / FOLDERS["merge"] / "parity.json").unlink()
    with pytest.raises(RunError, match="files of merge are missing or changed"):
        require("merge", again())


HOLD = """
import sys
from pathlib import Path
from burnish.run_dir import RunDir
with RunDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_do_not_work_in_one_run_folder(again, tmp_path, capfd):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        for work in (lambda: run(again()), lambda: run_stage("clean", again())):
            with pytest.raises(RunError, match="another burnish is at work") as caught:
                work()
            assert "run_dir" in caught.value.remedy
    finally:
        holder.communicate("\n")
    run(again())  # the lock is gone with its holder
    assert ran(capfd) == []


class _Crash(Exception):
    pass


def crash(*_, **__):
    raise _Crash


@pytest.mark.parametrize("stage", ALL)
def test_a_crash_in_a_stage_leaves_its_old_result_but_for_training(
    again, monkeypatch, capfd, stage
):
    loaded = again()
    folder = RunDir(loaded.run_dir)
    before = folder.read_manifest()["stages"]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Stage, "call", crash)
        with pytest.raises(_Crash):
            run_stage(stage, loaded, force=True)
    left = [name for name in ALL if name != "train" or stage != "train"]
    assert folder.read_manifest()["stages"] == {name: before[name] for name in left}
    capfd.readouterr()
    run(loaded)
    assert ran(capfd)[:1] == (["train"] if stage == "train" else [])
    assert list(folder.read_manifest()["stages"]) == ALL


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "override",
    [
        "data.sources[0].columns={instruction: no such, output: output}",
        "data.sources[0].path=no-such.csv",
        "clean.min_answer_chars=9999",
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_clean_that_fails_leaves_the_result_before_it(again, tmp_path, capfd, override, force):
    before = contents(tmp_path / "run")
    with pytest.raises(DataError):
        run_stage("clean", again(override), force=force)
    after = contents(tmp_path / "run")
    after.pop(tmp_path / "run" / FOLDERS["clean"] / ".key")
    assert after == before
    capfd.readouterr()
    run(again())
    assert ran(capfd) == []


def test_a_clean_that_is_interrupted_leaves_the_result_before_it_and_goes_on(
    again, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "run" / FOLDERS["clean"]
    before = contents(folder)
    changed = again("clean.squeeze_marks=false")
    with monkeypatch.context() as patch:
        patch.setattr("burnish.cleaning.clean.write_ledger", crash)
        with pytest.raises(_Crash):
            run_stage("clean", changed)
    assert contents(folder).items() >= before.items()
    assert (folder / "parts").is_dir()
    run_stage("clean", changed)
    assert "40 rows were cleaned before the interruption" in capfd.readouterr().err
    assert {path.name for path in contents(folder)} == {path.name for path in before}


def test_a_training_that_is_refused_leaves_the_result_before_it(again, tmp_path, monkeypatch):
    before = contents(tmp_path / "run")

    def refuse(*_, **__):
        raise TrainingError("labels", "they are wrong.", "")

    with monkeypatch.context() as patch:
        patch.setattr("burnish.training.train.check_audit", refuse)
        with pytest.raises(TrainingError, match="they are wrong"):
            run_stage("train", again("train.lora.r=4"))
    assert contents(tmp_path / "run") == before
    run(again())
    assert contents(tmp_path / "run") == before


def test_what_a_training_warns_of_is_said_once_though_asked_twice(again, monkeypatch, capfd):
    asked = []

    def check_audit(*_, **__):
        asked.append(True)
        warn("look at the labels")

    monkeypatch.setattr("burnish.training.train.check_audit", check_audit)
    run_stage("train", again("train.lora.r=4"))
    assert len(asked) == 2
    assert capfd.readouterr().err.count("warning: look at the labels") == 1


def test_the_manifest_links_every_stage_to_its_parents(again):
    loaded = again()
    stages = RunDir(loaded.run_dir).read_manifest()["stages"]
    assert {name: sorted(entry["parents"]) for name, entry in stages.items()} == {
        "clean": [],
        "prepare": ["clean"],
        "train": ["prepare"],
        "evaluate": ["prepare", "train"],
        "merge": ["prepare", "train"],
        "quantize": ["merge", "prepare"],
    }
    assert stages["train"]["parents"]["prepare"] == stages["merge"]["parents"]["prepare"]
    assert len(stages["clean"]["outside"]) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"stages": 3}', '{"stages": {"clean": 1}}', '{"stages": {"clean": {}}}'],
)
def test_a_manifest_that_is_none_is_told_with_its_remedy(again, tmp_path, text):
    (tmp_path / "run" / "manifest.json").write_text(text)
    with pytest.raises(BurnishError, match=r"manifest\.json: this is no manifest") as caught:
        run(again())
    assert "Delete the file" in caught.value.remedy


def test_other_weights_change_what_is_trained_and_not_what_is_prepared(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"1")
    recipe = Recipe(
        model=ModelSection(name_or_path=str(model)),
        data=DataSection(sources=[Source(path="a.csv")]),
    )

    def outside():
        stages = (pipeline.STAGE_BY_NAME[name] for name in ("prepare", "train"))
        return [stage.outside(recipe, RunDir(tmp_path)) for stage in stages]

    before = outside()
    (model / "model.safetensors").write_bytes(b"12")
    after = outside()
    assert after[0] == before[0]
    assert after[1] != before[1]
    (model / "config.json").write_text("[]")
    assert outside()[0] != before[0]


def test_other_work_takes_the_place_of_a_stages_function(tiny_recipe, monkeypatch):
    from burnish import pipeline
    from burnish.training.train import train

    asked = []

    def work(model, section, run):
        asked.append((model, section, run.path))
        return train(model, section, run)

    monkeypatch.setattr(pipeline, "STAGES", pipeline.STAGES[:3])
    report = pipeline.run(tiny_recipe, instead={"train": work})["train"]
    recipe = tiny_recipe.recipe
    assert asked == [(recipe.model, recipe.train, tiny_recipe.run_dir)]
    assert run_stage("train", tiny_recipe) == report  # unchanged, whoever did the work
    run_stage("train", tiny_recipe, force=True, work=work)
    assert len(asked) == 2
