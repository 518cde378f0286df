"""The process that runs an engine: quiet about what ranks have said, and never left alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from burnish.training.launch import engine

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def started(arguments, **options):
    command = [sys.executable, "-m", "burnish.training.launch.engine", *arguments]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=False, **options
    )


def test_a_failing_rank_makes_exit_code_1_and_no_trace_of_the_engine(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("import sys; print('as said', file=sys.stderr); sys.exit(2)", "utf-8")
    done = started(["torchrun", "--standalone", "--nproc-per-node=1", str(script)])
    assert (done.returncode, done.stderr) == (1, "as said\n")


def test_ranks_that_end_well_make_exit_code_0(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text("import os; print(os.environ['RANK'])", "utf-8")
    done = started(["torchrun", "--standalone", "--nproc-per-node=2", str(script)])
    assert done.returncode == 0
    assert sorted("".join(done.stdout.split())) == ["0", "1"]


def test_a_port_that_is_taken_is_one_line(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text("", "utf-8")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place = ["--master-addr=127.0.0.1", f"--master-port={port}"]
        done = started(["torchrun", "--nnodes=1", *place, "--nproc-per-node=1", str(script)])
    assert done.returncode == 1
    assert done.stderr.startswith("torchrun: ")
    assert "address already in use" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_engine_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        engine.main("mpi", [])


ORPHAN = """
import subprocess, sys
code = (
    "import time; from burnish.training.launch.engine import end_with_parent\\n"
    "end_with_parent(); print('watching', flush=True); time.sleep(60)"
)
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
"""


def test_a_process_ends_when_the_one_that_started_it_is_gone():
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it went on alone")
