"""How a command ends: one message, an exit code, and never a trace that nobody asked for."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from burnish.errors import DataError
from burnish.exits import GO_ON_LATER, STOPPED, refusal, run_command


@pytest.fixture(autouse=True)
def _signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ends(command, *, debug=False):
    """The exit code of a command that is run here."""
    with pytest.raises(SystemExit) as ended:
        run_command(command, debug=debug)
    return ended.value.code


def raises(error):
    def command():
        raise error

    return command


def test_an_error_is_one_message_and_exit_code_2(capsys):
    assert ends(raises(DataError("a.csv:3", "no answer.", "Name its column."))) == 2
    assert capsys.readouterr() == ("", "error: a.csv:3: no answer.\n  Name its column.\n")


@pytest.mark.parametrize("error", [DataError("a", "b."), OSError(errno.ENOSPC, "full")])
def test_debug_lets_an_error_through_with_its_trace(error, capsys):
    with pytest.raises(type(error)):
        run_command(raises(error), debug=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (
            errno.ENOSPC,
            "run/a",
            "run/a: the operating system says: No space left on device.\n"
            "  Make room on that disk and run it again: what is finished stays.",
        ),
        (
            errno.EROFS,
            "run",
            "run: the operating system says: Read-only file system.\n"
            "  See whose it is and who may read and write it, or choose another place.",
        ),
        (
            errno.EACCES,
            "run",
            "run: the operating system says: Permission denied.\n"
            "  See whose it is and who may read and write it, or choose another place.",
        ),
        (
            errno.ENAMETOOLONG,
            "aaa",
            "aaa: the operating system says: File name too long.\n  Choose a shorter name.",
        ),
        (
            errno.EIO,
            None,
            "burnish: the operating system says: Input/output error.\n"
            "  Run it with --debug to see what was being done.",
        ),
    ],
)
def test_what_the_system_refuses_says_where_what_and_what_to_do(number, name, message, capsys):
    error = OSError(number, os.strerror(number), name)
    assert str(refusal(error)) == message
    assert ends(raises(error)) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_an_error_of_a_library_that_has_no_number_keeps_its_text():
    assert str(refusal(OSError("no such repository"))).startswith("burnish: no such repository\n")


@pytest.mark.parametrize("code", [130, 143])
def test_an_interruption_says_that_what_is_finished_stays(capsys, code):
    assert ends(lambda: sys.exit(code)) == code
    assert capsys.readouterr().err == (
        "stopped: what is finished stays, and a rerun goes on from there\n"
    )


def test_an_interruption_that_the_command_line_does_not_answer_ends_alike(capsys):
    assert ends(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == STOPPED


def test_training_that_has_saved_and_stopped_ends_with_75_and_has_said_so_itself(capsys):
    assert ends(lambda: sys.exit(GO_ON_LATER)) == GO_ON_LATER == 75
    assert capsys.readouterr().err == ""


def test_a_command_that_is_done_says_nothing_more(capsys):
    assert ends(lambda: sys.exit(0)) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_sigterm_unwinds_the_work_and_ends_it_with_143():
    unwound = []

    def command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            unwound.append(True)

    assert ends(command) == 143
    assert unwound == [True]


LATE = """
import atexit, os, signal, sys
from burnish.exits import run_command

def late():
    os.kill(os.getpid(), signal.{number})
    print("tidied up")

def command():
    atexit.register(late)
    {command}

run_command(command, debug=False)
"""


def ended_late(command, number):
    """Runs a command that meets a signal while Python tidies up behind it."""
    code = LATE.format(command=command, number=number)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("sys.exit(75)", 75, ""),
        ("sys.exit(143)", 143, STOPPED),
        ("raise KeyboardInterrupt", 130, STOPPED),
        ("from burnish.errors import DataError; raise DataError('a', 'b.')", 2, "error: a: b.\n"),
    ],
)
def test_a_signal_that_comes_behind_the_end_changes_nothing_of_it(command, code, said, number):
    assert ended_late(command, number) == (code, "", said)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_within_an_exec_ends_with_the_code_and_not_by_the_signal():
    code = "from burnish.exits import run_command\ndef command():\n    "
    code += "exec('raise KeyboardInterrupt')\nrun_command(command, debug=False)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, STOPPED)


STUBBORN = """
import signal, subprocess, sys
from burnish import exits

exits.GRACE_SECONDS = 0.5
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
code = f"{deaf}; print(1); time.sleep(60)"

class Child(subprocess.Popen):
    def wait(self, timeout=None):  # tells that it is waited for
        if timeout is None:
            print(self.pid, flush=True)
        return super().wait(timeout)

child = Child([sys.executable, "-uc", code], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()

def wait():
    exits.wait_for(child)

exits.run_command(wait, debug=False)
"""


def test_a_process_that_does_not_end_when_it_is_asked_to_is_killed():
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
