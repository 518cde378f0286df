#!/usr/bin/env python3
"""How fast LoRA tuning could be here: this machine's rate of matrix products over the work a token.

    python benchmarks/limit.py [MODEL] [--data FILE]

The rate is measured at the model's own shapes, 1,024 tokens at a time, forward and backward. The
work of a useful token: 2 products (forward; backward to the input) of every frozen weight, 3 of the
adapters, the head for supervised tokens only, attention over the mean length. No loop of this kind
can pass rate / work; norms, softmax, the optimizer and Python come on top.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROWS = 1024


def limit_of(model: Path, records: Sequence[dict], dtype: str, threads: int) -> float:
    """Useful tokens per CPU-second that matrix products alone would allow."""
    import torch

    torch.set_num_threads(threads)
    shapes = _shapes(json.loads((model / "config.json").read_text()))
    supervised = sum(len(r["completion"]) for r in records)
    tokens = sum(len(r["prompt"]) + len(r["completion"]) for r in records)
    seconds = 0.0
    for (rows, columns), count, share in shapes["linear"]:
        share = supervised / tokens if share else 1.0
        seconds += count * share * _seconds_per_token(rows, columns, getattr(torch, dtype))
    flops = 3 * 2 * 16 * sum(c * (o + i) for (o, i), c, head in shapes["linear"] if not head)
    lengths = [len(r["prompt"]) + len(r["completion"]) for r in records]
    mean_seen = sum(n * n for n in lengths) / tokens / 2
    flops += 7 * 2 * mean_seen * shapes["layers"] * shapes["attention_width"]
    rate = _rate(shapes, getattr(torch, dtype))
    return 1 / (seconds + flops / rate)  # CPU-seconds, of all threads together


def _shapes(config: dict) -> dict:
    """The linear layers of a Llama-like model: (out, in), how many, and whether it is the head."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or hidden // heads
    mlp = config["intermediate_size"]
    linear = [
        ((width * (heads + 2 * key_heads), hidden), layers, False),
        ((hidden, width * heads), layers, False),
        ((2 * mlp, hidden), layers, False),
        ((hidden, mlp), layers, False),
        ((config["vocab_size"], hidden), 1, True),
    ]
    return {"linear": linear, "layers": layers, "attention_width": width * heads}


def _seconds_per_token(rows: int, columns: int, dtype: object) -> float:
    """Seconds a token for x Wᵀ and dy W of one layer."""
    import torch

    tokens = ROWS if rows < 20_000 else 256
    x, w = torch.randn(tokens, columns).to(dtype), torch.randn(rows, columns).to(dtype)
    dy, y, dx = (torch.empty(tokens, n).to(dtype) for n in (rows, rows, columns))
    dy.normal_()
    forward = _fastest(lambda: torch.mm(x, w.T, out=y))
    backward = _fastest(lambda: torch.mm(dy, w, out=dx))
    return (forward + backward) / tokens


def _rate(shapes: dict, dtype: object) -> float:
    (rows, columns), _, _ = shapes["linear"][2]
    return 2 * 2 * rows * columns / _seconds_per_token(rows, columns, dtype)


def _fastest(work: Callable[[], object], repeats: int = 7) -> float:
    """The shortest CPU time of a call, in seconds."""
    work()
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def main() -> None:
    """Prints the limit of a model for records of 200 tokens, three quarters of them supervised."""
    from burnish.models.names import find_model
    from burnish.recipe import ModelSection

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    model = find_model(ModelSection(name_or_path=options.model))
    records = [{"prompt": [0] * 50, "completion": [0] * 150}] * 8
    for dtype in ("float32", "bfloat16"):
        limit = limit_of(model, records, dtype, options.threads)
        print(f"{dtype}: at most {limit:.0f} useful tokens a CPU-second")


if __name__ == "__main__":
    main()
