"""The command `burnish`, which is `python -m burnish`, too.

Ctrl-C is answered from the first moment on. While modules load it ends the process at once, for
nothing has been begun: an exception would be shown with its trace there, or be swallowed by a
module that tries an import.
"""

import atexit
import os
import signal


def main() -> None:
    """Loads the command line and runs it."""
    atexit.register(_hear_no_more)  # the first to be registered is the last to be called
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else it is ignored, as behind nohup
        signal.signal(signal.SIGINT, _end_at_once)
    from burnish.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _hear_no_more() -> None:
    """While Python takes down its modules a signal would end it as if nobody had answered."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_at_once(number: int, _: object) -> None:
    try:
        os.write(2, b"stopped before anything was begun\n")
    finally:  # even if stderr is closed
        os._exit(128 + number)


if __name__ == "__main__":
    main()
