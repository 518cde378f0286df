"""Benchmarks: what lm-evaluation-harness is told, and what is made of its answer."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import BenchmarkError, MissingExtraError
from burnish.evaluation.benchmarks import run_benchmarks
from burnish.recipe import EvaluateSection, ModelSection

MODEL = ModelSection(name_or_path="owner/name")


@pytest.fixture
def harness(monkeypatch):
    """Stands in for the harness's process; returns what it was called with."""
    pytest.importorskip("lm_eval")
    calls = []

    def run(command, *, cwd, env, **_):
        calls.append((command, cwd, env))
        tasks = command[command.index("--tasks") + 1].split(",")
        folder = Path(command[command.index("--output_path") + 1]) / "model"
        folder.mkdir()
        results = {
            task: {"alias": task, "acc,none": 0.25, "acc_stderr,none": 0.1, "sample_len": 4}
            for task in tasks
        }
        (folder / "results_2026.json").write_text(json.dumps({"results": results}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def value(command, name):
    return command[command.index(name) + 1]


def test_scores_come_with_their_standard_errors_and_nothing_else(harness, tmp_path):
    scores = run_benchmarks(MODEL, EvaluateSection(tasks=["mmlu_anatomy"]), tmp_path, None)
    assert scores == {"mmlu_anatomy": {"acc": 0.25, "acc_stderr": 0.1}}


def test_the_harness_is_told_model_adapter_shots_and_limit(harness, tmp_path):
    section = EvaluateSection(tasks=["mmlu"], num_fewshot=3, limit=7, per_device_eval_batch_size=2)
    run_benchmarks(MODEL, section, tmp_path / "a,b=c", tmp_path / "adapter")
    ((command, cwd, env),) = harness
    assert command[:4] == [sys.executable, "-m", "lm_eval", "run"]
    model_args = json.loads(value(command, "--model_args"))
    assert model_args["pretrained"] == str(tmp_path / "a,b=c")
    assert model_args["peft"] == str(tmp_path / "adapter")
    assert model_args["dtype"] in ("float32", "bfloat16")
    assert "trust_remote_code" not in model_args
    assert value(command, "--num_fewshot") == "3"
    assert value(command, "--limit") == "7"
    assert value(command, "--batch_size") == "2"
    assert cwd == value(command, "--output_path")
    assert env["TOKENIZERS_PARALLELISM"] == "false"


def test_truthfulqa_gets_no_number_of_shots_and_runs_apart(harness, tmp_path):
    tasks = ["truthfulqa_mc1", "mmlu_anatomy", "truthfulqa_mc2", "mmlu_virology"]
    scores = run_benchmarks(MODEL, EvaluateSection(tasks=tasks), tmp_path, None)
    assert set(scores) == set(tasks)
    by_tasks = {value(c, "--tasks"): c for c, _, _ in harness}
    assert by_tasks.keys() == {"truthfulqa_mc1,truthfulqa_mc2", "mmlu_anatomy,mmlu_virology"}
    assert "--num_fewshot" not in by_tasks["truthfulqa_mc1,truthfulqa_mc2"]
    assert value(by_tasks["mmlu_anatomy,mmlu_virology"], "--num_fewshot") == "5"


@pytest.mark.parametrize("width", ["load_in_8bit", "load_in_4bit", "trust_remote_code"])
def test_what_the_recipe_says_of_the_model_holds_here_too(harness, tmp_path, width):
    section = ModelSection(name_or_path="owner/name", **{width: True})
    run_benchmarks(section, EvaluateSection(tasks=["mmlu"]), tmp_path, None)
    assert json.loads(value(harness[0][0], "--model_args"))[width] is True
    assert "--limit" not in harness[0][0]


def test_a_folder_of_benchmarks_is_worked_in_and_nothing_is_fetched(harness, tmp_path):
    section = EvaluateSection(tasks=["mmlu"], benchmarks_folder=str(tmp_path))
    run_benchmarks(MODEL, section, tmp_path, None)
    _, cwd, env = harness[0]
    assert cwd == str(tmp_path)
    assert env["HF_HUB_OFFLINE"] == env["HF_DATASETS_OFFLINE"] == "1"


def test_a_missing_folder_of_benchmarks_is_named(harness, tmp_path):
    section = EvaluateSection(tasks=["mmlu"], benchmarks_folder=str(tmp_path / "no"))
    with pytest.raises(BenchmarkError, match=r"evaluate\.benchmarks_folder: there is no folder"):
        run_benchmarks(MODEL, section, tmp_path, None)


def test_without_the_harness_its_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"burnish\[eval\]"):
        run_benchmarks(MODEL, EvaluateSection(tasks=["mmlu"]), tmp_path, None)


@pytest.mark.parametrize(
    "stderr, last",
    [("log\nValueError: no task mmlu_x\n\n", "ValueError: no task mmlu_x"), ("", "no output")],
)
def test_a_harness_that_fails_is_an_error_with_its_last_line(monkeypatch, tmp_path, stderr, last):
    pytest.importorskip("lm_eval")
    monkeypatch.setattr(
        subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 3, "", stderr)
    )
    with pytest.raises(BenchmarkError, match=f"exit code 3: {last}") as caught:
        run_benchmarks(MODEL, EvaluateSection(tasks=["mmlu_x"]), tmp_path, None)
    assert "evaluate.tasks" in caught.value.remedy


def test_a_harness_that_writes_no_results_is_an_error(monkeypatch, tmp_path):
    pytest.importorskip("lm_eval")
    monkeypatch.setattr(subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 0, "", ""))
    with pytest.raises(BenchmarkError, match="wrote no results"):
        run_benchmarks(MODEL, EvaluateSection(tasks=["mmlu"]), tmp_path, None)
