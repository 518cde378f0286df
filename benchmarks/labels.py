#!/usr/bin/env python3
"""Rows a second of the audit of labels, over the prepared rows of a run, repeated.

python benchmarks/labels.py runs/my
python benchmarks/labels.py runs/my --rows 1000000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import datasets

from burnish.labels.audit import audit_labels
from burnish.labels.rows import open_splits
from burnish.models.names import find_model
from burnish.recipe_file import load_recipe
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir


def main() -> None:
    """Print the speed with the page and all, the peak memory and what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=40_000)
    arguments = parser.parse_args()
    run, model = RunDir(arguments.run), load_recipe(arguments.run).recipe.model
    tokenizer, folder = load_tokenizer(run.tokenizer, model), find_model(model)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        saved, page = Path(scratch) / "set", Path(scratch) / "page.html"
        train = datasets.load_from_disk(str(run.split("train")))
        times = -(-arguments.rows // len(train))
        datasets.concatenate_datasets([train] * times).save_to_disk(str(saved))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        report = audit_labels(open_splits(saved), tokenizer, folder, "benchmark", page=page)
        seconds = time.perf_counter() - started
    rows = report.num_examples["all"]
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{rows:,} rows, {report.num_tokens:,} tokens in {seconds:.2f} s: {rows / seconds:,.0f}/s"
    )
    print(f"{more:,.0f} MiB more at the peak; found: {[f.name for f in report.findings]}")


if __name__ == "__main__":
    main()
