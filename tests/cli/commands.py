"""Commands as a person types them, in processes of their own."""

from __future__ import annotations

import subprocess
import sys


def burnish(*arguments, folder, text=None):
    return subprocess.run(
        [sys.executable, "-m", "burnish", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        input=text,
        check=False,
    )


def fails(*arguments, folder):
    """The message of a command that must end with exit code 2 and no trace."""
    done = burnish(*arguments, folder=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return done.stderr[done.stderr.index("error: ") :]
