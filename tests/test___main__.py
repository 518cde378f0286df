"""`python -m burnish` is `burnish`."""

from __future__ import annotations

import subprocess
import sys


def test_the_module_runs_as_the_command_does():
    done = subprocess.run(
        [sys.executable, "-m", "burnish", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("burnish ")
