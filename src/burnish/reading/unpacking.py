"""Bytes that are unpacked as they are read, with limits against archive bombs."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol, cast

from burnish.errors import DataError, first_line

MAX_RATIO = 200
"""An archive that unpacks to so many times its size is taken for a bomb ..."""
FREE_BYTES = 16 * 2**20
"""... beyond the first so many bytes."""

BROKEN = (
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile,
)  # fmt: skip
"""What the readers of archives raise on bytes that are none."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a file may unpack to.

    Attributes:
        name: the file's, for messages.
        packed_bytes: its size.
        max_unpacked_gib: the most that it may unpack to.
        noun: what it is, for messages.
    """

    name: str
    packed_bytes: int
    max_unpacked_gib: float
    noun: str = "archive"

    def named(self, name: str) -> Limit:
        """The same for a part of the file."""
        return replace(self, name=name)

    def check(self, unpacked_bytes: int) -> None:
        """Refuses so many bytes, if they are too many, or too many for the size of the file.

        Raises:
            DataError: they are.
        """
        self.check_size(unpacked_bytes)
        if unpacked_bytes > max(FREE_BYTES, MAX_RATIO * self.packed_bytes):
            raise DataError(
                self.name,
                f"this {self.noun} unpacks to more than {MAX_RATIO} times its size, as those do "
                "that are made to fill a machine.",
                "If it is right, unpack it yourself and name what comes out; "
                "data.max_unpacked_gib limits the size alone.",
            )

    def check_size(self, unpacked_bytes: int) -> None:
        """Refuses so many bytes, if they are more than max_unpacked_gib.

        Raises:
            DataError: they are.
        """
        if unpacked_bytes > self.max_unpacked_gib * 2**30:
            raise DataError(
                self.name,
                f"this {self.noun} unpacks to more than {self.max_unpacked_gib:g} GiB.",
                "If it is right, raise data.max_unpacked_gib.",
            )


class Reader(Protocol):
    """What unpacks bytes."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer at the end."""

    def close(self) -> None:
        """Gives the file back."""


def unpacked(inner: Reader, limit: Limit) -> BinaryIO:
    """The bytes that a reader unpacks, counted against a limit.

    Reading raises DataError where they are too many or the archive is broken.
    """
    return cast("BinaryIO", io.BufferedReader(_Unpacked(inner, limit), 2**18))


def broken(name: str, error: Exception) -> DataError:
    """The error that says that an archive can't be unpacked."""
    problem = f"this archive is broken: {first_line(error)}."
    return DataError(name, problem, "Pack or fetch it again.")


class _Unpacked(io.RawIOBase):
    def __init__(self, inner: Reader, limit: Limit) -> None:
        self._inner = inner
        self._limit = limit
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except BROKEN as error:
            raise broken(self._limit.name, error) from None
        self._count += len(data)
        self._limit.check(self._count)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()
