"""benchmarks/gpu.py: that it starts, refuses without a GPU, and measures what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_gpu_it_refuses_and_says_how_to_try_it():
    done = run("--tiny", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: torch sees no GPU here, so there is nothing to measure.\n"
        '  To try the script: benchmarks/gpu.py --device cpu --tiny --peers ""\n'
    )


@pytest.mark.slow
def test_on_a_cpu_the_tiny_model_goes_all_the_way():
    few = ["--records", "8", "--repeats", "1", "--max-length", "256", "--rows", "2"]
    done = run("--device", "cpu", "--tiny", "--peers", "", "--dtype", "float32", *few)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[0].partition("default ")[2])
    assert figures.keys() == {"useful_tokens_per_second", "peak_gib", "held_out_loss"}
    assert figures["useful_tokens_per_second"] > 0
    assert 4 < figures["held_out_loss"] < 6  # about ln 259: random weights, and two steps
    heading, _, _, row = done.stdout.split("\n\n")[1].splitlines()[:4]
    assert heading.startswith("a CPU, ")
    assert row.startswith("| burnish default | ")
    assert "peak unknown" in row


@pytest.mark.gpu
def test_on_a_gpu_it_measures_memory_of_tensors_and_mfu():
    done = run(
        "--tiny", "--peers", "", "--records", "16", "--repeats", "1", "--peak-tflops", "1000"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert torch.cuda.get_device_name() in done.stdout
    assert "%" in done.stdout.splitlines()[-2]
