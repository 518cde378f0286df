"""How a command ends: its exit code, and one message where something stopped it.

    0    all is done
    1    whoever read the output went away
    2    an error: where it is, what was found, what to do
    75   training was asked to stop by Ctrl-C or SIGTERM, and has saved: run it again to go on
    130  Ctrl-C elsewhere, or a second one; 143 SIGTERM likewise: what is finished stays

No file is left half written by any of them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from burnish.errors import BurnishError

INTERRUPTED = 128 + signal.SIGINT
"""The exit code with which typer answers Ctrl-C."""

TERMINATED = 128 + signal.SIGTERM

GRACE_SECONDS = 60
"""What a process gets to save and end once it is asked to."""

GO_ON_LATER = 75
"""EX_TEMPFAIL of sysexits.h, which schedulers of jobs read as: run it again."""

STOPPED = "stopped: what is finished stays, and a rerun goes on from there\n"

_NOT_ALLOWED = "See whose it is and who may read and write it, or choose another place."
_REMEDIES = {
    errno.ENOSPC: "Make room on that disk and run it again: what is finished stays.",
    errno.EDQUOT: "Make room on that disk and run it again: what is finished stays.",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: _NOT_ALLOWED,
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def run_command(command: Callable[[], None], *, debug: bool) -> None:
    """Runs a command line to its end; an error that a user can meet is one message.

    Args:
        command: the work, which may end with SystemExit.
        debug: show the trace of an error instead of its message.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        _prepare_streams()
        _run_and_flush(command)
    except BurnishError as error:
        if debug:
            raise
        _fail(error)
    except SystemExit as ended:
        _settle(ended.code)
        if ended.code in (INTERRUPTED, TERMINATED):
            sys.stderr.write(STOPPED)
        raise
    except KeyboardInterrupt:
        _settle(INTERRUPTED)
        sys.stderr.write(STOPPED)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _settle(1)
        _give_up_stdout()
        sys.exit(1)
    except OSError as error:
        if _give_up_stdout() and error.filename is None:
            error.filename = "stdout"
        if debug:
            raise
        _fail(refusal(error))


def refusal(error: OSError) -> BurnishError:
    """What the operating system refused, said as every other error: a full disk, a long name."""
    said = f"the operating system says: {error.strerror}." if error.strerror else str(error)
    remedy = _REMEDIES.get(error.errno or 0, "Run it with --debug to see what was being done.")
    where = "burnish" if error.filename is None else str(error.filename)
    return BurnishError(where, said, remedy)


def wait_for(process: subprocess.Popen[Any]) -> None:
    """Waits for a process; where this one is stopped, that one is asked to end first.

    It should have a session of its own, or Ctrl-C reaches it twice.
    """
    try:
        process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_SECONDS)
            finally:
                process.kill()
                process.wait()


def _stop(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _settle(code: str | int | None) -> None:
    """Says how the command ends: from now on a signal ends the process with that code, at once.

    Only Python's own tidying up is left, which a signal would end with a trace.
    """
    status = code if isinstance(code, int) else int(code is not None)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored, as behind nohup
            signal.signal(number, lambda *_: os._exit(status))
    # Where Ctrl-C came in an exec(), Python would end by the signal, even if that was answered. It
    # forgets that at the next one.
    exec("")


def _fail(error: BurnishError) -> None:
    _settle(error.exit_code)
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.exit_code)


def _run_and_flush(command: Callable[[], None]) -> None:
    """What is still to be written is written here, where a full disk can be told."""
    try:
        command()
    except SystemExit:
        sys.stdout.flush()
        raise


def _prepare_streams() -> None:
    """Lets stdout print every name, and fills the places of closed streams.

    The next file to be opened would take such a place otherwise.

    Raises:
        BurnishError: stdout is closed.
    """
    is_open = sys.stdout is not None
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    if not is_open:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if not is_open:
        raise BurnishError(
            "stdout",
            "it is closed, so there is no place for the report.",
            "Send it to a file, or to /dev/null.",
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _give_up_stdout() -> bool:
    """Drops what stdout holds, if it can't be written; Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return True
    return False
