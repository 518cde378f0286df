"""Every training method on every width of base: does it train, save, resume and merge?

    benchmarks/methods.py                  the table of methods, and that of optimizers
    benchmarks/methods.py --only DoRA full some of them
    benchmarks/methods.py --widths bf16    some columns
    benchmarks/methods.py --set model.name_or_path=FOLDER    of another model

The model is the embedded default unless another is named; the data are four made-up rows, so that a
cell takes a minute of the processor. A cell trains 20 steps, throws away what came after step 10,
goes on from there, and merges. It shows the loss over all rows before and after, CPU-seconds a
step, peak memory, whether the resumed run ended in the same bytes, and the largest difference of a
logit after merging; or why burnish refuses it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import peft  # noqa: F401  loaded once, for all cells
import transformers  # noqa: F401

from burnish.errors import BurnishError
from burnish.pipeline import run_stage
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir, file_sha256

WIDTHS = {
    "fp32": ["train.bf16=false"],
    "bf16": ["train.bf16=true"],
    "8-bit": ["train.bf16=false", "model.load_in_8bit=true"],
    "4-bit": ["train.bf16=false", "model.load_in_4bit=true"],
}

SLOW = "train.learning_rate=3e-5"

METHODS: dict[str, list[str]] = {
    "LoRA": [],
    "rsLoRA": ["train.lora.use_rslora=true"],
    "DoRA": ["train.lora.use_dora=true"],
    "PiSSA": ["train.lora.init_lora_weights=pissa"],
    "PiSSA, 16 iterations": ["train.lora.init_lora_weights=pissa_niter_16"],
    "OLoRA": ["train.lora.init_lora_weights=olora"],
    "orthogonal": ["train.lora.init_lora_weights=orthogonal"],
    "LoftQ": ["train.lora.init_lora_weights=loftq"],
    "LoRA+": ["train.lora.loraplus_lr_ratio=16", "train.learning_rate=1e-4"],
    "NEFTune": ["train.neftune_noise_alpha=5"],
    "dropout": ["train.lora.lora_dropout=0.05"],
    "new tokens": ["model.new_tokens=[burnish, adapters]"],
    "freeze, 2 layers": ["train.method=freeze", SLOW],
    "full": ["train.method=full", SLOW],
}

OPTIMIZERS: dict[str, list[str]] = {
    "adamw_torch": ["train.optim=adamw_torch"],
    "adamw_torch_fused": [],
    "adamw_bnb_8bit": ["train.optim=adamw_bnb_8bit"],
    "paged_adamw_32bit": ["train.optim=paged_adamw_32bit"],
    "paged_adamw_8bit": ["train.optim=paged_adamw_8bit"],
    "lion_32bit": ["train.optim=lion_32bit", SLOW],
    "lion_8bit": ["train.optim=lion_8bit", SLOW],
    "adafactor": ["train.optim=adafactor"],
    "sgd": ["train.optim=sgd", "train.learning_rate=0.1"],
    "muon": ["train.optim=muon"],
    "full, adamw_torch_fused": ["train.method=full", SLOW],
    "full, adamw_bnb_8bit": ["train.method=full", "train.optim=adamw_bnb_8bit", SLOW],
    "full, adafactor": ["train.method=full", "train.optim=adafactor", SLOW],
    "full, muon": ["train.method=full", "train.optim=muon", SLOW],
    "full, galore_adamw": ["train.method=full", "train.optim=galore_adamw", SLOW],
    "full, apollo_adamw": ["train.method=full", "train.optim=apollo_adamw", SLOW],
}

RECIPE = """\
run_dir: {folder}/run
data: {{sources: [{{path: {folder}/rows.json}}]}}
clean: {{drop_near_duplicates: false}}
prepare: {{validation_size: 0, test_size: 0}}
train:
  max_steps: 20
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 1
  lr_scheduler_type: constant
  warmup_ratio: 0
  logging_steps: 1
  eval_strategy: "no"
  save_strategy: steps
  save_steps: 10
  load_best_model_at_end: false
  gradient_checkpointing: false
  seed: 0
"""

ROWS = [
    ("What does burnish do?", "It tunes language models, from raw files to a server."),
    ("How are adapters merged?", "In float32 on the original base, and the result is checked."),
    ("Name a river of Europe.", "The Danube flows through ten countries."),
    ("How many legs has an ant?", "An ant has six legs, as all insects do."),
]


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="methods or optimizers by name")
    parser.add_argument("--widths", nargs="*", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--set", nargs="*", default=[], help="settings of all cells")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    widths = {name: [*WIDTHS[name], *options.set] for name in options.widths}
    table("method", METHODS, widths, options.only)
    if "fp32" in widths:
        table("optimizer", OPTIMIZERS, {"fp32": widths["fp32"]}, options.only)
    return 0


def table(
    what: str, rows: dict[str, list[str]], widths: dict[str, list[str]], only: list[str] | None
) -> None:
    """Prints a table, a row when it is ready."""
    chosen = {name: settings for name, settings in rows.items() if not only or name in only}
    if chosen:
        print(f"| {what} | {' | '.join(widths)} |\n|---|{'---|' * len(widths)}", flush=True)
    for name, settings in chosen.items():
        row = [show(run_cell([*own, *settings])) for own in widths.values()]
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    print()


def run_cell(settings: list[str]) -> dict[str, Any]:
    """What became of a recipe, tried in a process of its own, which has the libraries loaded."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [{"instruction": q, "output": a} for q, a in ROWS]
        (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        (folder / "recipe.yaml").write_text(RECIPE.format(folder=scratch), encoding="utf-8")
        work = multiprocessing.get_context("fork").Process(target=cell, args=(folder, settings))
        work.start()
        work.join()
        found = folder / "found.json"
        if not found.is_file():
            return {"failed": f"exit code {work.exitcode}"}
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return result


def show(found: dict[str, Any]) -> str:
    """A cell in words."""
    if "failed" in found:
        return f"FAILED {found['failed']}"
    if "refused" in found:
        return f"refused: {found['refused']}"
    same = "same bytes" if found["resumed"] else "OTHER BYTES"
    return (
        f"{found['first']:.3f} → {found['last']:.3f}, {found['seconds']:.2f} s, "
        f"{found['peak']:.2f} GiB, {same}, {found['difference']:.0e}"
    )


def cell(folder: Path, settings: list[str]) -> None:
    """Trains, resumes and merges the recipe in a folder; writes found.json there."""
    try:
        found = whole_way(folder, settings)
    except BurnishError as error:
        found = {"refused": str(error).replace("\n", " ")}
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def whole_way(folder: Path, settings: list[str]) -> dict[str, Any]:
    """What the stages make of a recipe, with a resume from the middle."""
    loaded = load_recipe(folder / "recipe.yaml", settings)
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    report = run_stage("train", loaded)
    run = RunDir(loaded.run_dir)
    losses, whole = by_step(run), hashes(run)
    seconds = cpu_seconds(run.checkpoints / "checkpoint-20")
    shutil.rmtree(run.checkpoints / "checkpoint-20")
    shutil.rmtree(run.trained)
    # Called again with its files gone, the stage goes on from the checkpoint that is left.
    run_stage("train", loaded)
    resumed = hashes(run) == whole
    merged = run_stage("merge", loaded)
    return {
        "first": sum(losses[:2]) / 2,
        "last": sum(losses[-2:]) / 2,
        "seconds": seconds / 20,
        "peak": report["peak_memory_gib"],
        "resumed": resumed,
        "difference": merged["max_logit_difference"],
    }


def by_step(run: Any) -> list[float]:
    """The loss of each step; two steps are all rows."""
    text = (run.folder("train") / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def hashes(run: Any) -> dict[str, str]:
    """The sha256 of the trained weights."""
    return {p.name: file_sha256(p) for p in sorted(run.trained.glob("*.safetensors"))}


def cpu_seconds(checkpoint: Path) -> float:
    """What all steps took of the processor."""
    record = json.loads((checkpoint / "resume.json").read_text(encoding="utf-8"))
    return float(record["counters"]["cpu_seconds"])


if __name__ == "__main__":
    sys.exit(main())
