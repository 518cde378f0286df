"""JSON text -> records: a list of objects, or an object a line.

Where several rows of a list begin on one line, the column follows in their origin
(`rows.json:1:58`), so that every origin names one row. A list is read through a buffer, so that it
may be of any length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.reading import encodings
from burnish.reading.encodings import LongLine, is_unreadable, long_row, unreadable_row
from burnish.reading.json_values import MAX_DEPTH, decode, decode_at, is_deep, why_no_json

_BLANKS = re.compile(r"\s+")
_BETWEEN_ROWS = re.compile(r"[ \t\r\n,]+")
_LONE_BRACE = re.compile(r"\{[ \t]*([\r\n]|$)")
_NEAR_THE_END = 32
"""A fault so near the end of what has been read may only be the cut."""


def json_lines(
    lines: Iterable[str | LongLine], name: str, encoding: str = "UTF-8"
) -> Iterator[Record | BadRow]:
    """The rows of JSON lines, an object a line; empty lines are no rows.

    Args:
        lines: each with its line end or without.
        name: what stands before the line in an origin.
        encoding: what the bytes should have been, for the reason of a BadRow.
    """
    for number, line in enumerate(lines, start=1):
        origin = f"{name}:{number}"
        if isinstance(line, LongLine):
            yield long_row(origin, line)
        elif not line or line.isspace():
            continue
        elif is_unreadable(line):
            yield unreadable_row(origin, line.rstrip("\r\n"), encoding)
        else:
            try:
                value = decode(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(origin, why_no_json(error), line.rstrip("\r\n"))
            else:
                yield _row(value, origin, line)


def json_list(
    parts: Iterable[str], name: str, encoding: str = "UTF-8"
) -> Iterator[Record | BadRow]:
    """The rows of a JSON list of objects, one by one.

    Args:
        parts: the text, cut anywhere.
        name: what stands before the line in an origin.
        encoding: what the bytes should have been, for the reason of a BadRow.

    Raises:
        DataError: the text is not one whole list; the message names the line.
    """
    text = _Text(parts, name)
    text.skip(_BLANKS)
    text.step()
    line_before = 0
    while True:
        text.skip(_BETWEEN_ROWS)
        origin = text.origin(with_column=text.line == line_before)
        line_before = text.line
        if text.peek() in ("]", ""):
            break
        value, raw = text.value()
        if len(raw) > encodings.MAX_ROW_CHARS:
            yield long_row(origin, LongLine(raw[: encodings.NUM_SHOWN], len(raw)))
        elif is_unreadable(raw):
            yield unreadable_row(origin, raw, encoding)
        elif isinstance(value, ValueError):
            yield BadRow(origin, why_no_json(value), raw)
        else:
            yield _row(value, origin, raw)
    if not text.peek():
        raise _broken_list(origin, "the list of rows is not closed; the file seems cut off.")
    text.step()
    text.skip(_BLANKS)
    if text.peek():
        raise _broken_list(origin, "the list of rows ends here, but the file goes on.")


def is_list(parts: Iterable[str]) -> bool:
    """Whether a text is a JSON list, as far as its first character says."""
    text = _Text(parts, "")
    text.skip(_BLANKS)
    return text.peek() == "["


def refuse_lone_object(parts: Iterable[str], name: str) -> None:
    """Refuses objects over several lines: read as JSON lines, every line would be a broken row.

    Raises:
        DataError: the first object of the text does not end on its line.
    """
    text = _Text(parts, name)
    text.skip(_BLANKS)
    if text.peek() == "{" and (text.fits(_LONE_BRACE) or _spans_lines(text)):
        raise DataError(
            name,
            "this file is neither a list of rows nor a row on each line: its first object goes "
            "over several lines.",
            "Write the rows as a JSON list, [{...}, {...}], or one object a line.",
        )


def _spans_lines(text: _Text) -> bool:
    try:
        raw = text.value()[1]
    except DataError:
        return False
    return "\n" in raw or "\r" in raw


class _Text:
    """The part of a text that is being read, and where in the file that is."""

    def __init__(self, parts: Iterable[str], name: str) -> None:
        self._parts = iter(parts)
        self._name = name
        self._text = ""
        self._position = 0
        self._line_start = 0  # negative where the line begins before the text that is held
        self._is_whole = False
        self.line = 1

    def origin(self, *, with_column: bool) -> str:
        column = f":{self._position - self._line_start + 1}" if with_column else ""
        return f"{self._name}:{self.line}{column}"

    def peek(self) -> str:
        """The next character; nothing at the end."""
        if self._position == len(self._text):
            self._read_on()
        return self._text[self._position : self._position + 1]

    def fits(self, pattern: re.Pattern[str]) -> bool:
        """Whether the text goes on like this."""
        return pattern.match(self._text, self._position) is not None

    def step(self) -> None:
        """Goes behind one character that is no line break."""
        self._position += 1

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Goes behind characters that the pattern fits, however many there are."""
        while self.peek() and (found := pattern.match(self._text, self._position)):
            self._go_to(found.end())

    def value(self) -> tuple[Any, str]:
        """The JSON value that begins here, and its text.

        The value is an error where the text is JSON, but not as we read it.

        Raises:
            DataError: it is no JSON; what follows can't be told apart then.
        """
        while True:
            try:
                value, end = decode_at(self._text, self._position)
            except json.JSONDecodeError as error:
                if self._is_final(error) or not self._read_on():
                    raise self._broken(error) from None
            except RecursionError as error:
                raise _broken_list(f"{self._name}:{self.line}", why_no_json(error)) from None
            else:
                # A number that ends where the text is cut may go on behind it.
                is_open = not isinstance(value, dict) and self._is_near_the_end(end)
                if not (is_open and self._read_on()):
                    raw = self._text[self._position : end]
                    self._go_to(end)
                    return value, raw

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether more text would not mend it."""
        is_cut = error.msg.startswith("Unterminated string") or self._is_near_the_end(error.pos)
        return not is_cut

    def _is_near_the_end(self, position: int) -> bool:
        return position > len(self._text) - _NEAR_THE_END

    def _read_on(self) -> bool:
        """Puts more text behind what is not read yet; false at the end of the file."""
        held = self._text[self._position :]
        if len(held) > encodings.MAX_ROW_CHARS:
            raise _broken_list(
                f"{self._name}:{self.line}",
                f"the row that begins here has more than {encodings.MAX_ROW_CHARS:,} characters.",
            )
        taken, length = [held], 0
        for part in self._parts:
            taken.append(part)
            length += len(part)
            if length >= max(encodings.PIECE, len(held)):  # doubled, so that retries stay few
                break
        if not length:
            return False
        self._text = "".join(taken)
        self._line_start -= self._position
        self._position = 0
        return True

    def _go_to(self, end: int) -> None:
        count = self._text.count("\n", self._position, end)
        if count:
            self.line += count
            self._line_start = self._text.rindex("\n", self._position, end) + 1
        self._position = end

    def _broken(self, error: json.JSONDecodeError) -> DataError:
        line = self.line + self._text.count("\n", self._position, error.pos)
        start = self._text.rfind("\n", self._position, error.pos) + 1 or self._line_start
        why = f"this is not JSON: {error.msg} at column {error.pos - start + 1}."
        return _broken_list(f"{self._name}:{line}", why)


def _broken_list(where: str, problem: str) -> DataError:
    return DataError(where, problem, "Mend the file there; what follows can't be told apart.")


def _row(value: Any, origin: str, text: str) -> Record | BadRow:
    if not isinstance(value, dict):
        reason = f"a row is an object; found {type(value).__name__}."
        return BadRow(origin, reason, text.strip())
    if text.count("[") + text.count("{") > MAX_DEPTH and is_deep(value):
        return BadRow(origin, "this JSON is nested too deeply.", text.strip())
    return Record(value, origin)
