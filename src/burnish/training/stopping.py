"""How a run is asked to stop: the first signal lets it save, a later one ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from burnish.training import ranks

SAME_SECONDS = 2.0
"""A signal that comes again within this time is still the first: launchers, and `timeout`, send one
to a whole group of processes and then to each of them."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ASKED = b"stopping: this step is finished and saved first; the same again stops at once\n"


class LeftHalfway(Exception):
    """Work that changes nothing was left, because the run shall stop."""


class StopRequest:
    """Whether a run shall stop at its next step.

    Attributes:
        is_asked: somebody asked for it, by a signal or by `ask`.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._asked_at = 0.0
        self._may_leave = False

    def is_agreed(self) -> bool:
        """Whether any process was asked to stop: the same answer for all, at the cost of a sum."""
        return bool(ranks.largest_over_ranks(int(self.is_asked)))

    def ask(self) -> None:
        """Asks the run to save a checkpoint at its next step and to stop."""
        if not self.is_asked:
            self.is_asked, self._asked_at = True, time.monotonic()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, a first SIGTERM or Ctrl-C only asks.

        A thread other than the main one can't listen (Ray trains in such a one); there signals do
        what they did before.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # ignored, as behind nohup
                signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def leaving(self, *, is_allowed: bool = True) -> Iterator[None]:
        """A block that changes nothing, and so may be left halfway when a stop is asked for.

        Raises:
            LeftHalfway: the run shall stop. Of several processes each would leave at a place of
                its own; there it is not allowed.
        """
        self._may_leave = is_allowed
        try:
            if is_allowed and self.is_asked:
                raise LeftHalfway
            yield
        finally:
            self._may_leave = False

    def _hear(self, number: int, _: FrameType | None) -> None:
        if not self.is_asked:
            self.ask()
            _tell()
            if self._may_leave:
                raise LeftHalfway
        elif time.monotonic() - self._asked_at >= _same_seconds(number):
            sys.exit(128 + number)


def _same_seconds(number: int) -> float:
    """Ctrl-C twice is two wishes where no launcher stands between."""
    lone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return 0.0 if number == signal.SIGINT and lone else SAME_SECONDS


def _tell() -> None:
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(2, _ASKED)  # a handler must not enter the streams that it interrupted
