#!/usr/bin/env python3
"""How fast LoRA tuning could be here: this machine's rate of matrix products over the work a token.

    python benchmarks/limit.py [MODEL] [--threads N]

Work and rate are counted as the trainer counts them (burnish.training.limit). No loop of this kind
can pass rate / work; norms, softmax, the optimizer and Python come on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from burnish.planning.work import Work

SECONDS = 8.0
"""How long the rate is measured."""


def limit_of(model: Path, records: Sequence[dict], dtype: str, threads: int) -> float:
    """Useful tokens per CPU-second that matrix products alone would allow."""
    import torch

    from burnish.training.limit import measured_rate

    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    rate = measured_rate(_work(model), kind, torch.device("cpu"), seconds=SECONDS)
    return rate / flops_per_token(model, records)  # CPU-seconds, of all threads together


def flops_per_token(model: Path, records: Sequence[dict]) -> float:
    """FLOPs a useful token of LoRA tuning (rank 16, all linear layers), forward and backward."""
    lengths = [len(r["prompt"]) + len(r["completion"]) for r in records]
    flops = _work(model).flops(
        tokens=sum(lengths),
        supervised=sum(len(r["completion"]) for r in records),
        pairs=sum(n * (n + 1) / 2 for n in lengths),
    )
    return flops / sum(lengths)


def _work(model: Path) -> Work:
    import torch

    from burnish.planning.shape import empty_model, read_shape, with_adapter
    from burnish.planning.work import work_of
    from burnish.recipe import LoraSettings

    return work_of(with_adapter(empty_model(read_shape(model), torch.float32), LoraSettings()))


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
