"""Bytes -> text: the encoding of a file, and its lines, of which none is held that is too long.

Bytes that are not of the encoding stay in the text as U+DC00 and their value, so that a row that
holds one can be told from the others and shown as it was.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from burnish.conversation import BadRow
from burnish.errors import DataError
from burnish.reading.archives import RawFile

MAX_ROW_CHARS = 64 * 2**20
"""A longer row is rejected rather than held in memory."""
PIECE = 2**20
"""Most bytes or characters that are read at once."""
NUM_SHOWN = 200
"""So much of a row that is too long is kept to show it."""
MIN_UTF8 = 16
"""So many characters beyond ASCII that read as UTF-8 are no accident of another encoding."""
NUM_HEAD = 4096
"""So many bytes at the start of a file tell UTF-16 that has no byte order mark ..."""
ZEROS, ZEROS_IN_UTF8 = 0.05, 0.25
"""... if such a share of the characters there are ASCII; more where it may be UTF-8, too."""
MIN_MIXED = 2
"""In a file of GB18030, a line that is UTF-8 with so many characters of 3 bytes is of UTF-8."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\ufeff"
"""A byte order mark as a character."""
_BYTE = re.compile("[\udc00-\udcff]")
_KEEP = "burnish.keep"


def _keep(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in lost), error.end


codecs.register_error(_KEEP, _keep)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes are read.

    Attributes:
        name: Python's name of it.
        is_mixed: some lines are UTF-8, though most are not.
    """

    name: str
    is_mixed: bool = False

    @property
    def title(self) -> str:
        """The name as people write it."""
        return self.name.upper().removesuffix("-SIG")


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line of more than MAX_ROW_CHARS characters: how it begins, and its length."""

    start: str
    length: int


def find_encoding(raw: RawFile) -> Encoding:
    """The encoding of a file: what its byte order mark says, or UTF-8, or GB18030.

    A file in which every second byte may be zero, and few others are, is UTF-16 without a mark.
    Where not all of the file is UTF-8, the encoding is the one that fits most of the lines that
    hold more than ASCII.

    Raises:
        DataError: neither does; the message names the first byte that is not UTF-8.
    """
    with raw.open() as stream:
        head = stream.read(NUM_HEAD)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name)
    if unmarked := _unmarked_utf16(head):
        return Encoding(unmarked)
    return Encoding("utf-8") if _is_utf8(raw) else _by_vote(raw)


def _unmarked_utf16(head: bytes) -> str | None:
    """UTF-16 in one of its byte orders, where a line feed and the zeros of ASCII tell it.

    Few characters beyond ASCII have zeros, on the other side (一 is U+4E00).
    """
    least = (ZEROS_IN_UTF8 if _fits_utf8(head) else ZEROS) * (len(head) // 2)
    for name, line_feed, zeros, others in (
        ("utf-16-le", b"\n\0", head[1::2].count(0), head[::2].count(0)),
        ("utf-16-be", b"\0\n", head[::2].count(0), head[1::2].count(0)),
    ):
        if zeros >= max(least, 4 * others) and re.match(b"(?s)(?:..)*?" + line_feed, head):
            return name
    return None


def _fits_utf8(start: bytes) -> bool:
    """Whether a text that begins so may be UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _is_utf8(raw: RawFile) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with raw.open() as stream:
            while piece := stream.read(PIECE):
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


@dataclass(slots=True)
class _Votes:
    """How many of the lines with more than ASCII an encoding reads."""

    cast: int = 0
    utf8: int = 0
    gb18030: int = 0
    both: int = 0
    first_fault: tuple[int, int, int] | None = None  # line, position, byte: what is not UTF-8


def _by_vote(raw: RawFile) -> Encoding:
    votes = _votes(raw)
    if 2 * votes.utf8 > votes.cast:
        return Encoding("utf-8")
    if 2 * votes.gb18030 > votes.cast:
        return Encoding("gb18030", is_mixed=votes.both > 0)
    assert votes.first_fault is not None, "a file in which every line is UTF-8 is UTF-8"
    line, position, byte = votes.first_fault
    raise DataError(
        f"{raw.name}:{line}",
        "most lines of this file are neither UTF-8 nor GB18030; the first byte that is not UTF-8 "
        f"is {byte:#04x} at position {position}.",
        "Save the file as UTF-8; some rows may mix encodings.",
    )


def _votes(raw: RawFile) -> _Votes:
    """What the lines say, a piece of a long one by itself."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    gb18030 = codecs.getincrementaldecoder("gb18030")()
    votes = _Votes()
    line, position = 1, 0
    with raw.open() as stream:
        for part in iter(partial(stream.readline, PIECE), b""):
            ends = part.endswith(b"\n")
            position += len(part)
            if part.isascii():
                utf8.reset()
                gb18030.reset()
            else:
                text = _decoded(utf8, part, ends)
                other = _decoded(gb18030, part, ends)
                _count(votes, text, other)
                if votes.first_fault is None and isinstance(text, UnicodeDecodeError):
                    start = position - len(text.object) + text.start
                    votes.first_fault = (line, start, text.object[text.start])
            line += ends
    return votes


def _decoded(
    decoder: codecs.IncrementalDecoder, part: bytes, is_whole: bool
) -> str | UnicodeDecodeError:
    try:
        return decoder.decode(part, is_whole)
    except UnicodeDecodeError as error:
        decoder.reset()
        return error


def _count(votes: _Votes, as_utf8: str | UnicodeError, as_gb18030: str | UnicodeError) -> None:
    votes.cast += 1
    votes.gb18030 += isinstance(as_gb18030, str)
    if isinstance(as_utf8, UnicodeDecodeError):
        before = as_utf8.object[: as_utf8.start].decode("utf-8")
        votes.utf8 += sum(not character.isascii() for character in before) >= MIN_UTF8
    else:
        votes.utf8 += 1
        votes.both += isinstance(as_gb18030, str) and _is_surely_utf8(str(as_utf8))


def _is_surely_utf8(text: str) -> bool:
    return sum(character > "\u07ff" for character in text) >= MIN_MIXED


def pieces(raw: RawFile, encoding: Encoding) -> Iterator[str]:
    """The lines of a file, each with its line end; a line longer than a piece in several.

    A line ends at a line feed, at a carriage return or at both.
    """
    size = min(PIECE, MAX_ROW_CHARS + 1)
    with io.TextIOWrapper(raw.open(), encoding.name, _KEEP, newline="") as text:
        read = iter(partial(text.readline, size), "")
        yield from map(_unmixed, read) if encoding.is_mixed else read


def _unmixed(line: str) -> str:
    """A line of GB18030; one that is UTF-8 with its bytes kept, since it can't be read so."""
    if line.isascii() or is_unreadable(line):
        return line
    data = line.encode("gb18030")
    try:
        is_other = _is_surely_utf8(data.decode("utf-8"))
    except UnicodeDecodeError:
        return line
    return data.decode("ascii", _KEEP) if is_other else line


def lines(parts: Iterable[str]) -> Iterator[str | LongLine]:
    """Whole lines out of `pieces`; of one longer than MAX_ROW_CHARS only its beginning.

    A byte order mark at the start of a line, as files put together have it, goes.
    """
    size = min(PIECE, MAX_ROW_CHARS + 1)
    rest = iter(parts)
    part = next(rest, "")
    while part:
        if len(part) < size:
            yield part.removeprefix(_MARK)
            part = next(rest, "")
        else:
            line, part = _whole(part, rest)
            yield line.removeprefix(_MARK) if isinstance(line, str) else line


def _whole(part: str, rest: Iterator[str]) -> tuple[str | LongLine, str]:
    """The line that begins with a piece, and the piece behind it."""
    held, length = [part], len(part)
    while part and part[-1] not in "\r\n":
        part = next(rest, "")
        length += len(part)
        if length <= MAX_ROW_CHARS:
            held.append(part)
        else:
            del held[1:]
    behind = next(rest, "")
    if part.endswith("\r") and behind == "\n":  # a line end that was cut in two
        behind = next(rest, "")
        length += 1
        held.append("\n")
    if length <= MAX_ROW_CHARS:
        return "".join(held), behind
    return LongLine(held[0][:NUM_SHOWN], length), behind


def is_unreadable(text: str) -> bool:
    """Whether a text holds bytes that are not of its file's encoding."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def unreadable_row(origin: str, text: str, encoding: str) -> BadRow:
    """A row with bytes that are not of the encoding, each shown by its hexadecimal value."""
    shown = _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return BadRow(origin, f"this row's bytes are not {encoding}; see \\x in its text.", shown)


def long_row(origin: str, line: LongLine) -> BadRow:
    """A row that is too long to hold, with its beginning as its text."""
    reason = f"this row has {line.length:,} characters; the most are {MAX_ROW_CHARS:,}."
    return BadRow(origin, reason, line.start)
