"""`python -m burnish` is `burnish`, and can be interrupted at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

VERSION = [sys.executable, "-m", "burnish", "--version"]
MESSAGE = "stopped before anything was begun\n"

INTERRUPTED_WHILE_LOADING = """
import os, signal, sys
import burnish.__main__

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["burnish", "--version"]
signal.signal(signal.SIGINT, signal.{answer})
burnish.__main__.main()
"""


def run_interrupted(answer):
    """Runs the command with this answer to Ctrl-C, which comes while it loads."""
    code = INTERRUPTED_WHILE_LOADING.format(answer=answer)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_module_runs_as_the_command_does():
    done = subprocess.run(VERSION, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("burnish ")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_while_modules_load_is_one_line_and_130():
    done = run_interrupted("default_int_handler")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", MESSAGE)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interruption_that_is_ignored_stays_ignored():
    done = run_interrupted("SIG_IGN")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("burnish ")


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_modules_are_taken_down_is_not_heard(name):
    """Python has given up its own answers by then: the system's would be to end by the signal."""
    code = (
        "import os, signal, sys, burnish.__main__\n"
        "class Late:\n"
        f"    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.{name}):\n"
        "        kill(me, number)\n"
        "sys.late = Late()\n"
        "sys.argv = ['burnish', '--version']\n"
        "burnish.__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
