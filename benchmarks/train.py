#!/usr/bin/env python3
"""LoRA tuning beside the peers: useful tokens a second, memory, and what was learned.

    python benchmarks/train.py                        # burnish, and transformers.Trainer
    python benchmarks/train.py --peers trl,hf,llamafactory --records 64 --data my.json
    python benchmarks/train.py --dtypes float32,bfloat16 --threads 2 --repeats 3

Every peer has an environment of its own, made on first use under --environments. All get the same
records in the same order, LoRA r=16 alpha=32 on all linear layers without dropout, 8 records a
step (where a peer packs, 2 rows of --max-length), one epoch. Each run is a process of its own, the
peers take turns, and medians over the repeats are shown. Tokens are those of the records; padding
counts for nothing. Memory is the peak from the start of training on. `limit` is what this
machine's own matrix products would allow (benchmarks/limit.py). Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from limit import limit_of

HERE = Path(__file__).parent
TORCH = os.environ.get("BURNISH_TORCH", "torch==2.13.0")
PACKAGES = {
    "trl": ["trl==1.16.0", "peft"],
    "hf": ["transformers", "peft", "datasets"],
    "llamafactory": ["llamafactory==0.9.5"],
}
MODES = {
    "burnish": ["default", "no_prefixes", "transformers", "int8"],
    "hf": ["default", "group"],
    "trl": ["default", "no_checkpointing", "packing"],
    "llamafactory": ["default", "packing"],
}
FILES = {
    "burnish": "burnish_train.py",
    "hf": "hf_train.py",
    "trl": "trl_train.py",
    "llamafactory": "llamafactory_train.py",
}
LONG_SYSTEM_PROMPT = (
    "You are the assistant of a small library. Answer in full sentences, name your sources where "
    "you have any, say so when you do not know, and never invent a title, an author or a year. "
    "Keep to the question that was asked; where it is unclear, say how you understood it. Use "
    "plain words, short paragraphs and no headings. If a question is about health, law or money, "
    "add that a person who knows the case should be asked. Do not repeat the question, do "
    "not flatter, and end when the answer is complete."
)


def main() -> None:
    """Runs all peers and prints a table for each type."""
    options = _options()
    model = _model_folder(options.model)
    records, held_out = _records(model, options)
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in options.dtypes.split(","):
            folder = _in_type(model, dtype, Path(scratch))
            runs = [(p, m) for p in ["burnish", *options.peers] for m in _modes(p, options)]
            results: dict[tuple[str, str], list[dict]] = {run: [] for run in runs}
            for repeat in range(options.repeats):
                for peer, mode in runs:
                    job = {
                        "model": str(folder), "mode": mode, "dtype": dtype, "records": records,
                        "folder": f"{scratch}/{dtype}-{peer}-{mode}-{repeat}",
                        "held_out": held_out, "max_length": options.max_length,
                        "threads": options.threads,
                    }  # fmt: skip
                    result = _run(peer, job, options)
                    if result:
                        results[peer, mode].append(result)
                        print(f"  {repeat + 1}: {peer} {mode} {json.dumps(result)}", flush=True)
            _print_table(dtype, results, limit_of(folder, records, dtype, options.threads))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--peers", type=lambda text: [p for p in text.split(",") if p], default=["hf"]
    )
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--data", type=Path, help="a JSON list of instruction, input, output")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--only", help="comma-separated modes, such as default,packing")
    parser.add_argument(
        "--system-prompt", action="store_true", help="a long one before every record"
    )
    parser.add_argument(
        "--environments", type=Path, default=Path.home() / ".cache" / "burnish-peers"
    )
    return parser.parse_args()


def _modes(peer: str, options: argparse.Namespace) -> list[str]:
    if not options.only:
        return MODES[peer]
    wanted = options.only.split(",")
    return [m for m in MODES[peer] if m in wanted or (peer, m) == ("burnish", "default")]


def _model_folder(name: str) -> Path:
    from burnish.models.names import find_model
    from burnish.recipe import ModelSection

    return find_model(ModelSection(name_or_path=name))


def _in_type(model: Path, dtype: str, scratch: Path) -> Path:
    """The model in a folder of its own with weights of that type, which all peers then load."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = scratch / f"model-{dtype}"
    AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def _records(model: Path, options: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """The records to train on and 24 others, by burnish's renderer, shuffled with seed 0."""
    from burnish.conversation import IGNORE_INDEX, Conversation, Message
    from burnish.recipe import ModelSection
    from burnish.rendering import load_tokenizer, render_example

    if options.data:
        rows = json.loads(options.data.read_text(encoding="utf-8"))
    else:
        from made_up_rows import made_up_rows

        rows = list(made_up_rows(options.records + 24))
    random.Random(0).shuffle(rows)
    tokenizer = load_tokenizer(model, ModelSection())
    system = LONG_SYSTEM_PROMPT if options.system_prompt else ""
    records = []
    for row in rows[: options.records + 24]:
        user = "\n\n".join(filter(None, [row["instruction"], row.get("input")]))
        said = [Message("system", system)] if system else []
        said += [Message("user", user), Message("assistant", row["output"])]
        example = render_example(Conversation(tuple(said), ""), tokenizer, options.max_length)
        start = next(i for i, label in enumerate(example.labels) if label != IGNORE_INDEX)
        end = len(example.labels) - next(
            i for i, label in enumerate(reversed(example.labels)) if label != IGNORE_INDEX
        )
        records.append(
            {
                "prompt": example.input_ids[:start],
                "completion": example.input_ids[start:end],
                "user": user,
                "output": row["output"],
                "system": system,
            }
        )
    return records[: options.records], records[options.records :]


def _run(peer: str, job: dict, options: argparse.Namespace) -> dict | None:
    """One run in a process of its own; None, with the reason, where the peer refuses."""
    python = sys.executable if peer == "burnish" else _environment(peer, options.environments)
    on_cpu = {"OMP_NUM_THREADS": str(job["threads"]), "CUDA_VISIBLE_DEVICES": ""}
    return run_job(python, FILES[peer], job, on_cpu)


def run_job(python: Path | str, file: str, job: dict, variables: dict[str, str]) -> dict | None:
    """What a peer's script prints of a job; None, with the reason, where it fails."""
    Path(job["folder"]).mkdir(parents=True)
    path = Path(job["folder"]) / "job.json"
    path.write_text(json.dumps(job))
    quiet = {"TRL_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(python), str(HERE / "peers" / file), str(path)],
        env=os.environ | quiet | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        print(f"  {file} {job['mode']} failed: {reason}", flush=True)
        return None
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _environment(peer: str, root: Path) -> Path:
    """The peer's Python; its environment is made on first use, torch first."""
    python = root / peer / "bin" / "python"
    stamp = root / peer / "installed"
    if not stamp.is_file():
        print(f"making an environment for {peer} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(root / peer)], check=True)
        for packages in ([TORCH], PACKAGES[peer]):
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        stamp.touch()
    return python


def _print_table(dtype: str, results: dict[tuple[str, str], list[dict]], limit: float) -> None:
    print(
        f"\n| {dtype} | tokens/CPU-s | of the limit {limit:.0f} | tokens/s "
        "| peak GiB | held-out loss |"
    )
    print("|---|---|---|---|---|---|")
    for (peer, mode), runs in results.items():
        if not runs:
            continue
        cpu, wall, gib, loss = (
            statistics.median(run[key] for run in runs)
            for key in (
                "useful_tokens_per_cpu_second",
                "useful_tokens_per_second",
                "peak_gib",
                "held_out_loss",
            )
        )
        shown = f"{cpu:.1f} | {cpu / limit:.0%} | {wall:.1f} | {gib:.2f} | {loss:.4f}"
        print(f"| {peer} {mode} | {shown} |")
    print(flush=True)


if __name__ == "__main__":
    main()
