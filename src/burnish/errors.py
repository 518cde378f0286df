"""Every error a user can meet.

BurnishError
├── RecipeError       a setting that is unknown, of the wrong type or makes no sense
├── DataError         a file or row of examples that can't be used
├── ModelError        a model that can't be found or loaded
├── ParityError       prompts that are not those that training saw
├── TrainingError     a training run that can't go on
├── RunError          a run folder whose stages don't fit what is asked
├── ExportError       a merged or quantized model that is not what it should be
├── BenchmarkError    lm-evaluation-harness could not be run
├── ServingError      the server can't start
├── OutOfMemoryError  work of which even the smallest piece does not fit in memory
└── MissingExtraError an optional package is not installed
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any


class BurnishError(Exception):
    """Says where something is wrong, what was found there, and what to do about it.

    Attributes:
        where: the place, such as `raw.csv:203` or `medical.yaml:14`.
        problem: what is wrong and what was found, one sentence.
        remedy: what the reader can do, one sentence; may be empty.
    """

    exit_code = 2

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where = where
        self.problem = problem
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        """The message as a terminal shows it, without the word error."""
        first = f"{self.where}: {self.problem}"
        return f"{first}\n  {self.remedy}" if self.remedy else first

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled as a call with `args`, which are the message here.
        return _unpickled, (type(self), self.where, self.problem, self.remedy), self.__dict__


def _unpickled(kind: type[BurnishError], where: str, problem: str, remedy: str) -> BurnishError:
    error = kind.__new__(kind)
    BurnishError.__init__(error, where, problem, remedy)
    return error


class RecipeError(BurnishError):
    """A setting that is unknown, of the wrong type or makes no sense."""


class DataError(BurnishError):
    """A file or row of examples that can't be used."""


class ModelError(BurnishError):
    """A model that can't be found or loaded."""


class ParityError(BurnishError):
    """Prompts that are not those that training saw."""


class TrainingError(BurnishError):
    """A training run that can't go on."""


class RunError(BurnishError):
    """A run folder whose stages don't fit what is asked."""


class ExportError(BurnishError):
    """A merged or quantized model that is not what it should be."""


class BenchmarkError(BurnishError):
    """lm-evaluation-harness could not be run."""


class ServingError(BurnishError):
    """The server can't start."""


class OutOfMemoryError(BurnishError):
    """Work of which even the smallest piece does not fit in memory."""


class MissingExtraError(BurnishError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            package,
            "this step needs a package that is not installed.",
            f"Install it with: pip install 'burnish[{extra}]'",
        )


_NUMBER_IN_RUST = re.compile(r"\(os error (\d+)\)")


def first_line(error: BaseException) -> str:
    """What a library's error says first, without a full stop; its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Lets what the system refuses in the block name this place, if it names no file.

    A full disk names none. Libraries in Rust, such as those that save tokenizers and tensors, say
    what the system refused in errors of their own; they come out as the system's.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = place
        raise
    except Exception as error:  # plain Exception is what tokenizers raises
        found = _NUMBER_IN_RUST.search(str(error))
        if found and not isinstance(error, BurnishError):
            number = int(found[1])
            raise OSError(number, os.strerror(number), place) from error
        raise
