#!/usr/bin/env python3
"""LoRA tuning on a GPU beside TRL with Liger's kernels: tokens a second, MFU, peak memory.

    python benchmarks/gpu.py --model Qwen/Qwen2.5-7B-Instruct --data my.json --records 512
    python benchmarks/gpu.py --modes default,compile,sdpa,packing --repeats 5
    python benchmarks/gpu.py --shape config-and-tokenizer/   # no weights needed
    python benchmarks/gpu.py --device cpu --tiny --peers ""       # tries the script without a GPU

All get the same records, LoRA r=16 alpha=32 on all linear layers without dropout, bfloat16, no
recomputing, --rows rows of --max-length tokens at a time and twice that a step. TRL packs too
(bfd), takes Liger's kernels, and flash-attn where --flash-attn put it into its environment; burnish
takes what is installed beside it. Each run is a process of its own, runs take turns, medians over
the repeats are shown. Two epochs are trained and the second is timed, so that compiling does not
count. Memory is what tensors took at most (torch.cuda.max_memory_allocated). MFU is the work of
useful tokens (benchmarks/limit.py) over the card's dense peak by its maker's data sheet.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from limit import flops_per_token
from train import PACKAGES, _environment, _in_type, _model_folder, _records, run_job

PACKAGES["trl_gpu"] = ["trl==1.16.0", "peft", "liger-kernel"]
PEERS = {"trl": "trl_gpu"}
MODES = {
    "burnish": ["default", "compile", "no_liger", "sdpa", "fast"],
    "trl": ["packing", "padded"],
}
USUAL = "default,packing"


def main() -> int:
    """Runs all and prints a table."""
    options = _options()
    if options.device == "cuda" and not (card := _card()):
        print(
            "error: torch sees no GPU here, so there is nothing to measure.\n"
            '  To try the script: benchmarks/gpu.py --device cpu --tiny --peers ""',
            file=sys.stderr,
        )
        return 2
    card = card if options.device == "cuda" else "a CPU"
    with tempfile.TemporaryDirectory() as scratch:
        if options.shape:
            model = folder = _random_model(options.shape, options.dtype, Path(scratch))
        else:
            model = _tiny_model(Path(scratch)) if options.tiny else _model_folder(options.model)
            folder = _in_type(model, options.dtype, Path(scratch))
        records, held_out = _records(model, options)
        shared = {
            "model": str(folder), "dtype": options.dtype, "records": records, "held_out": held_out,
            "max_length": options.max_length, "rows": options.rows, "threads": os.cpu_count() or 1,
        }  # fmt: skip
        results = _results(shared, options, Path(scratch))
        _print_table(card, results, flops_per_token(folder, records), _peak(card, options))
    return 0 if all(results.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--peers", default="trl", help='trl, or "" for burnish alone')
    parser.add_argument("--modes", default=USUAL, help=json.dumps(MODES))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--shape", type=Path, help="a folder of config.json and a tokenizer: weights at random"
    )
    parser.add_argument("--tiny", action="store_true", help="a random model of two small layers")
    parser.add_argument("--data", type=Path, help="a JSON list of instruction, input, output")
    parser.add_argument("--records", type=int, default=512)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="of a card that is not in the table")
    parser.add_argument("--flash-attn", action="store_true", help="build flash-attn for TRL, too")
    parser.add_argument(
        "--system-prompt", action="store_true", help="a long one before all records"
    )
    parser.add_argument(
        "--environments", type=Path, default=Path.home() / ".cache" / "burnish-peers"
    )
    return parser.parse_args()


def _card() -> str:
    """The name of the GPU that torch sees; empty if it sees none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _peak(card: str, options: argparse.Namespace) -> float | None:
    """The card's FLOPs a second, if they are known."""
    import torch

    from burnish.training.limit import data_sheet

    if options.peak_tflops:
        return options.peak_tflops * 1e12
    known = data_sheet(card, getattr(torch, options.dtype))
    return known[0] if known else None


def _results(
    shared: dict, options: argparse.Namespace, scratch: Path
) -> dict[tuple[str, str], list[dict]]:
    """The figures of every run, by peer and mode."""
    wanted = options.modes.split(",")
    peers = ["burnish", *filter(None, options.peers.split(","))]
    results: dict[tuple[str, str], list[dict]] = {
        (peer, mode): [] for peer in peers for mode in MODES[peer] if mode in wanted
    }
    for repeat in range(options.repeats):
        for (peer, mode), figures in results.items():
            folder = scratch / f"{peer}-{mode}-{repeat}"
            job = shared | {"mode": mode, "folder": str(folder)}
            if result := _run(peer, job, options):
                figures.append(result)
                print(f"  {repeat + 1}: {peer} {mode} {json.dumps(result)}", flush=True)
    return results


def _run(peer: str, job: dict, options: argparse.Namespace) -> dict | None:
    """One run in a process of its own; None, with the reason, where it fails."""
    python = sys.executable
    if peer != "burnish":
        python = str(_environment(PEERS[peer], options.environments))
        if options.flash_attn:
            build = ["-m", "pip", "install", "-q", "flash-attn", "--no-build-isolation"]
            subprocess.run([python, *build], check=True)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
    return run_job(python, f"{peer}_gpu.py", job, hidden)


def _print_table(
    card: str, results: dict[tuple[str, str], list[dict]], flops: float, peak: float | None
) -> None:
    print(f"\n{card}, {flops / 1e9:.3g} GFLOP a token")
    print("| | tokens/s | MFU | peak GiB | held-out loss |\n|---|---|---|---|---|")
    for (peer, mode), runs in results.items():
        if not runs:
            print(f"| {peer} {mode} | failed | | | |")
            continue
        rate, gib, loss = (
            statistics.median(run[key] for run in runs)
            for key in ("useful_tokens_per_second", "peak_gib", "held_out_loss")
        )
        mfu = f"{rate * flops / peak:.1%}" if peak else "peak unknown"
        print(f"| {peer} {mode} | {rate:,.0f} | {mfu} | {gib:.2f} | {loss:.4f} |")
    print(flush=True)


def _random_model(shape: Path, dtype: str, scratch: Path) -> Path:
    """A model of a config's shape with random weights: as fast as any other of that shape."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = scratch / "random"
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(shape), dtype=getattr(torch, dtype)
        )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(shape).save_pretrained(folder)
    return folder


def _tiny_model(scratch: Path) -> Path:
    """A random Llama of two layers with a token a byte."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*names, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(names)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(scratch / "tiny")
    wrapped.save_pretrained(scratch / "tiny")
    return scratch / "tiny"


if __name__ == "__main__":
    sys.exit(main())
