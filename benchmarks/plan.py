"""What `burnish plan` predicts against what `burnish train` takes: peak memory, and time.

    benchmarks/plan.py memory DATA          a table of recipes: predicted and measured peak RSS
    benchmarks/plan.py time DATA            an epoch: predicted and measured seconds

DATA is a file of examples; the model is the embedded default, in float32 unless said. Every recipe
is trained in a process of its own for two optimizer steps and an evaluation (memory) or an epoch
(time).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPES: dict[str, list[str]] = {
    "as it comes": [],
    "LoRA r 64": ["train.lora.r=64"],
    "LoRA on q and v": ["train.lora.target_modules=[q_proj,v_proj]"],
    "rows of 512": ["train.row_length=512", "prepare.max_length=512"],
    "rows of 2048": ["train.row_length=2048"],
    "16 records a step, recomputing": [
        "train.gradient_accumulation_steps=4",
        "train.gradient_checkpointing=true",
    ],
    "10 of 30 layers recomputing": ["train.gradient_checkpointing=10"],
    "transformers' forward": ["train.backend=transformers"],
    "the same, recomputing": ["train.backend=transformers", "train.gradient_checkpointing=true"],
    "8 bits": ["model.load_in_8bit=true"],
    "4 bits, rows of 512": ["model.load_in_4bit=true", "train.row_length=512"],
    "bfloat16": ["train.bf16=true"],
    "bfloat16, rows of 512": ["train.bf16=true", "train.row_length=512"],
}

RECIPE = """\
run_dir: {folder}/run
data: {{sources: [{{path: {data}, limit: {limit}}}]}}
prepare: {{max_length: 1024, validation_size: 0.02, test_size: 0}}
train: {{bf16: false}}
"""


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memory", "time"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=300, help="rows of the data to use")
    parser.add_argument("--only", type=int, default=None, help="only the first so many recipes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "recipe.yaml"
        text = RECIPE.format(folder=scratch, data=options.data.absolute(), limit=options.limit)
        recipe.write_text(text, encoding="utf-8")
        burnish("clean", recipe, [])
        if options.what == "memory":
            memory(recipe, dict(list(RECIPES.items())[: options.only]))
        else:
            duration(recipe)
    return 0


def memory(recipe: Path, recipes: dict[str, list[str]]) -> None:
    """Predicted and measured peak of each recipe in MiB, and the errors' mean and worst."""
    print("| recipe | predicted MiB | measured MiB | error |\n|---|---|---|---|")
    errors = []
    for name, settings in recipes.items():
        burnish("prepare", recipe, settings)
        report, _ = burnish("plan", recipe, settings, "--no-calibrate")
        predicted = report["memory_gib"]["cpu"]["peak"] * 1024
        _, measured = burnish("train", recipe, [*settings, "train.max_steps=2"], "--force")
        errors.append(predicted / measured - 1)
        print(f"| {name} | {predicted:,.0f} | {measured:,.0f} | {errors[-1]:+.1%} |", flush=True)
    mean = sum(map(abs, errors)) / len(errors)
    print(f"mean absolute error {mean:.1%}, worst {max(map(abs, errors)):.1%}")


def duration(recipe: Path) -> None:
    """Predicted and measured seconds of an epoch, the evaluation apart."""
    settings = ["train.num_train_epochs=1"]
    burnish("prepare", recipe, settings)
    plan, _ = burnish("plan", recipe, settings)
    train, _ = burnish("train", recipe, settings, "--force")
    predicted = plan["time"]["seconds_per_epoch"]
    measured = plan["data"]["num_tokens"] / train["useful_tokens_per_second"]
    print(f"predicted {predicted:.1f} s ({plan['time']['measured']}), measured {measured:.1f} s")
    print(f"error {predicted / measured - 1:+.1%}")


def burnish(verb: str, recipe: Path, settings: list[str], *more: str) -> tuple[dict, float]:
    """The report of a verb and the peak RSS of its process in MiB."""
    command = [sys.executable, "-m", "burnish", verb, str(recipe), "--json", *more]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = process.stdout.read() if process.stdout else ""
    errors = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{errors}")
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return json.loads(out), usage.ru_maxrss / scale


if __name__ == "__main__":
    sys.exit(main())
