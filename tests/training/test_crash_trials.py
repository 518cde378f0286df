"""A few of the trials of benchmarks/crashes.py: real kills and signals, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(
    "arguments",
    [["kills", "--trials", "10"], ["signals", "--trials", "2", "--forks"]],
    ids=lambda arguments: arguments[0],
)
def test_every_run_that_is_killed_or_stopped_ends_in_the_same_adapter(tmp_path, arguments):
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "crashes.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=580, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{arguments[0]}: 0 failed" in done.stdout
