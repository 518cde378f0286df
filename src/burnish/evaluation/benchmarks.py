"""lm-evaluation-harness, run as a process of its own: its prompts and scores unchanged."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.errors import BenchmarkError, MissingExtraError
from burnish.progress import say
from burnish.recipe import EvaluateSection, ModelSection

Scores = dict[str, dict[str, float]]
"""Task -> metric -> value; a standard error stands under `<metric>_stderr`."""


def run_benchmarks(
    model: ModelSection, section: EvaluateSection, folder: Path, adapter: Path | None
) -> Scores:
    """The scores of a model, with an adapter on it or without, on the recipe's tasks.

    Raises:
        MissingExtraError: lm_eval is not installed.
        BenchmarkError: a task is unknown, its data are not there, or the run failed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm_eval", "eval")
    scores: Scores = {}
    for num_fewshot, tasks in _by_fewshot(section).items():
        say(f"lm-evaluation-harness: {', '.join(tasks)} on {'adapter' if adapter else 'base'}")
        with tempfile.TemporaryDirectory() as scratch:
            _launch(
                _arguments(model, section, folder, adapter)
                + ["--tasks", ",".join(tasks), "--output_path", scratch]
                + ([] if num_fewshot is None else ["--num_fewshot", str(num_fewshot)]),
                section,
                scratch,
            )
            scores |= _read_scores(Path(scratch))
    return scores


def _by_fewshot(section: EvaluateSection) -> dict[int | None, list[str]]:
    """The tasks by the number of examples shown; TruthfulQA brings its own and takes none."""
    groups: dict[int | None, list[str]] = {}
    for task in section.tasks:
        fixed = task.startswith("truthfulqa")
        groups.setdefault(None if fixed else section.num_fewshot, []).append(task)
    return groups


def _arguments(
    model: ModelSection, section: EvaluateSection, folder: Path, adapter: Path | None
) -> list[str]:
    import torch

    from burnish.models.loading import pick_device, pick_dtype

    settings: dict[str, Any] = {"pretrained": str(folder.absolute())}
    settings["dtype"] = str(pick_dtype()).removeprefix("torch.")
    if adapter is not None:
        settings["peft"] = str(adapter.absolute())
    if model.load_in_8bit or model.load_in_4bit:
        settings["load_in_8bit" if model.load_in_8bit else "load_in_4bit"] = True
    if model.trust_remote_code:
        settings["trust_remote_code"] = True
    # As JSON: a path may hold a comma or an equals sign.
    packed = json.dumps(settings, ensure_ascii=False)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", packed]
    command += ["--device", str(pick_device()) if torch.cuda.is_available() else "cpu"]
    command += ["--batch_size", str(section.per_device_eval_batch_size)]
    if section.limit is not None:
        command += ["--limit", str(section.limit)]
    return command


def _launch(command: list[str], section: EvaluateSection, scratch: str) -> None:
    environment = dict(os.environ)
    environment["TOKENIZERS_PARALLELISM"] = "false"
    cwd = scratch
    if section.benchmarks_folder is not None:
        cwd = str(Path(section.benchmarks_folder).absolute())
        if not Path(cwd).is_dir():
            raise BenchmarkError(
                "evaluate.benchmarks_folder",
                f"there is no folder {cwd}.",
                "Name the folder that holds cais/mmlu and the like, or remove the setting to "
                "fetch from the hub.",
            )
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BenchmarkError(
            "lm-evaluation-harness",
            f"it ended with exit code {done.returncode}: {lines[-1] if lines else 'no output'}",
            "Check the names under evaluate.tasks (lm_eval ls tasks) and that their data can be "
            "reached; evaluate.benchmarks_folder takes them from this disk.",
        )


def _read_scores(scratch: Path) -> Scores:
    scores: Scores = {}
    for path in scratch.rglob("results_*.json"):
        results: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text("utf-8"))["results"]
        for task, values in results.items():
            scores[task] = {
                name.removesuffix(",none"): value
                for name, value in values.items()
                if isinstance(value, int | float) and name != "sample_len"
            }
    if not scores:
        raise BenchmarkError("lm-evaluation-harness", "it wrote no results.", "")
    return scores
