"""Sweeps: which trials there are, what they begin with, and what their table says."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from burnish.errors import MissingExtraError, RecipeError, RunError
from burnish.sweeping import sweep as sweeping
from burnish.sweeping.sweep import sweep

LOSSES = {1e-4: 2.5, 3e-4: 2.25, 1e-3: 3.0}


@pytest.fixture
def trained(monkeypatch):
    """Stands for the training processes; returns the settings that they were started with."""
    seen = []

    def pretend(job, trial):
        seen.append(dict(trial.settings))
        loss = LOSSES.get(trial.settings.get("train.learning_rate"), 9.0)
        if loss == 3.0:
            raise RunError(str(trial.folder), "training ended with code 2.", "See above.")
        return {"validation/loss": loss, "steps": 3}

    monkeypatch.setattr(sweeping, "_train", pretend)
    return seen


def test_every_combination_is_trained_and_the_best_comes_first(recipe, trained):
    report = sweep(recipe, [], ["train.learning_rate=1e-4,3e-4", "train.lora.r=2,4"])
    assert trained == [
        {"train.learning_rate": rate, "train.lora.r": r} for rate in (1e-4, 3e-4) for r in (2, 4)
    ]
    assert [row["validation/loss"] for row in report["trials"]] == [2.25, 2.25, 2.5, 2.5]
    assert report["best"] == ["--set train.learning_rate=0.0003", "--set train.lora.r=2"]
    lines = (recipe.parent / "run/sweep/sweep.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("| train.learning_rate | train.lora.r | validation loss |")
    assert lines[2].startswith("| 0.0003 | 2 | 2.25 |")
    assert len(lines) == 2 + 4


def test_a_trial_begins_with_links_to_what_the_run_has_prepared(recipe, trained):
    sweep(recipe, [], ["train.learning_rate=1e-4"])
    run = recipe.parent / "run"
    trial = run / "sweep" / "learning_rate=0.0001"
    for name in ("1-clean/conversations.jsonl", "2-prepare/prompts.json"):
        assert (trial / name).samefile(run / name)
    stages = json.loads((trial / "manifest.json").read_text(encoding="utf-8"))["stages"]
    assert list(stages) == ["clean", "prepare"]


def test_what_a_setting_changes_is_done_again_in_the_trial_alone(recipe, trained):
    sweep(recipe, [], ["prepare.max_length=64,128"])
    run = recipe.parent / "run"
    shorter, same = (run / "sweep" / f"max_length={n}" / "2-prepare/audit.json" for n in (64, 128))
    assert same.samefile(run / "2-prepare/audit.json")
    assert not shorter.samefile(run / "2-prepare/audit.json")


def test_a_trial_that_fails_is_in_the_table_and_the_others_go_on(recipe, trained):
    report = sweep(recipe, [], ["train.learning_rate=1e-3,1e-4"])
    assert [row.get("validation/loss") for row in report["trials"]] == [2.5, None]
    assert "training ended with code 2" in report["trials"][1]["failed"]
    assert report["best"] == ["--set train.learning_rate=0.0001"]


def test_where_all_fail_the_sweep_does(recipe, trained):
    with pytest.raises(RunError, match="no trial succeeded"):
        sweep(recipe, [], ["train.learning_rate=1e-3"])


@pytest.mark.parametrize(
    "vary, where",
    [
        ([], "--vary"),
        (["train.learning_rate=1e-4", "train.learning_rate=2e-4"], "--vary train.learning_rate"),
        (["train.learning_rate=1e-5..1e-3"], "--vary"),
        (["train.learning_rte=1"], "--set train.learning_rte"),
        (["train.lora.r=2,none"], "--set train.lora.r"),
        (["evaluate.num_answers=1,2"], "--vary evaluate.num_answers"),
        (["run_dir=a,b"], "--vary run_dir"),
    ],
    ids=str,
)
def test_faults_are_found_before_anything_is_run(recipe, trained, vary, where):
    with pytest.raises(RecipeError) as caught:
        sweep(recipe, [], vary)
    assert caught.value.where.startswith(where)
    assert trained == []
    assert not (recipe.parent / "run").exists()


def test_a_search_draws_from_ranges_and_draws_the_same_again(recipe, trained):
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("needs optuna")
    vary = ["train.learning_rate=1e-5..1e-3:log", "train.lora.r=2..8", "train.seed=1,2"]
    sweep(recipe, [], vary, search=4)
    first = list(trained)
    assert len(first) == 4
    assert all(1e-5 <= s["train.learning_rate"] <= 1e-3 for s in first)
    assert all(s["train.lora.r"] in range(2, 9) and s["train.seed"] in (1, 2) for s in first)
    trained.clear()
    sweep(recipe, [], vary, search=5)
    assert trained[:4] == first


def test_trials_train_in_processes_of_their_own_and_only_once(recipe, capfd):
    report = sweep(recipe, [], ["train.learning_rate=1e-4,1e-2"])
    assert report["trials"][0]["train.learning_rate"] == 1e-2
    assert {row["steps"] for row in report["trials"]} == {4}
    capfd.readouterr()
    assert sweep(recipe, [], ["train.learning_rate=1e-4,1e-2"]) == report
    assert capfd.readouterr().err.count("train: unchanged") == 2


@pytest.mark.parametrize("code, ends_with", [(75, 75), (130, 130), (-2, 130), (-15, 143)])
def test_a_trial_that_is_interrupted_ends_the_sweep_with_its_code(
    recipe, monkeypatch, code, ends_with
):
    monkeypatch.setattr(sweeping, "in_own_process", lambda command: (code, "{}", ""))
    with pytest.raises(SystemExit) as caught:
        sweep(recipe, [], ["train.learning_rate=1e-4,3e-4"])
    assert caught.value.code == ends_with


def test_the_best_settings_can_be_pasted_into_a_shell(recipe, trained):
    report = sweep(recipe, [], ["train.lora.target_modules=[q_proj, v_proj]"])
    assert report["best"] == ["""--set 'train.lora.target_modules=["q_proj", "v_proj"]'"""]


def test_without_evaluations_a_search_goes_by_the_training_loss(recipe, monkeypatch):
    pytest.importorskip("optuna")
    told = []
    monkeypatch.setattr(
        sweeping, "_train", lambda job, trial: {"validation/loss": None, "train/loss": 2.5}
    )
    run_trial = sweeping._run_trial
    monkeypatch.setattr(sweeping, "_run_trial", lambda *a: told.append(run_trial(*a)) or told[-1])
    sweep(recipe, [], ["train.learning_rate=1e-5..1e-3:log"], search=2)
    assert told == [2.5, 2.5]


def test_a_search_without_optuna_is_refused_before_anything_is_run(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError):
        sweep(recipe, [], ["train.learning_rate=1e-5..1e-3"], search=2)
    assert not (recipe.parent / "run").exists()


def test_a_failed_trial_is_in_the_table_with_its_reason(recipe, monkeypatch):
    ended = {"1e-04": (2, "", "step 3: the loss is nan.\n  Lower it.\n"), "3e-04": (-9, "", "")}
    monkeypatch.setattr(
        sweeping,
        "in_own_process",
        lambda command: ended["1e-04" if "train.learning_rate=0.0001" in command else "3e-04"],
    )
    with pytest.raises(RunError, match="no trial succeeded"):
        sweep(recipe, [], ["train.learning_rate=1e-4,3e-4"])
    table = (recipe.parent / "run/sweep/sweep.md").read_text(encoding="utf-8")
    assert "step 3: the loss is nan." in table
    assert "training ended with code 137." in table
