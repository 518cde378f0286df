"""The engines that start ranks, in a process of their own: `python -m …engine torchrun ARGUMENTS`.

They print traces when a rank fails, although the rank has said why; here they end quietly.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from burnish.errors import first_line

SECONDS_BETWEEN_LOOKS = 1.0


def torchrun(arguments: Sequence[str]) -> None:
    """Starts ranks with torch's own launcher; returns when all have ended."""
    from torch.distributed import run

    launcher: Any = run
    launcher.run(launcher.parse_args(list(arguments)))


def accelerate(arguments: Sequence[str]) -> None:
    """Starts ranks with accelerate's launcher, which sets up FSDP or DeepSpeed by a file."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    launch_command(launch_command_parser().parse_args(list(arguments)))


ENGINES: dict[str, Callable[[Sequence[str]], None]] = {
    "torchrun": torchrun,
    "accelerate": accelerate,
}


def end_with_parent() -> None:
    """Ends this process as by `kill` when the one that started it is gone.

    A rank that trains on alone would write into a run folder that nobody holds any more.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main(name: str, arguments: Sequence[str]) -> None:
    """Runs an engine; the exit code is 1 where a rank failed or none could be started."""
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    end_with_parent()
    logging.disable(logging.ERROR)
    try:
        ENGINES[name](arguments)
    except ChildFailedError:
        sys.exit(1)
    except DistError as error:  # a port that is taken, an address where nobody answers
        sys.stderr.write(f"{name}: {first_line(error)}\n")
        sys.exit(1)
    except SignalException as stopped:
        sys.exit(128 + int(stopped.sigval))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
