"""Lines of csv -> records: a header, then a row of fields each."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.progress import say
from burnish.reading import encodings
from burnish.reading.encodings import LongLine, is_unreadable, unreadable_row

MIN_SWALLOWED = 3
"""So many lines of a quoted field that look like rows ..."""
SHARE_SWALLOWED = 0.9
"""... and are such a share of its lines, seem to be rows that a quote swallowed."""

_LINE_END = re.compile(r"\r\n|\r|\n")


def csv_rows(
    lines: Iterable[str | LongLine],
    name: str,
    delimiter: str = ",",
    encoding: str = "UTF-8",
    tell: Callable[[str], None] = say,
) -> Iterator[Record | BadRow]:
    """The rows below the header; empty lines are no rows.

    Args:
        lines: each with its line end.
        name: what stands before the line in an origin.
        delimiter: what stands between fields.
        encoding: what the bytes should have been, for the reason of a BadRow.
        tell: takes a warning of a quote that seems to swallow rows.

    Raises:
        DataError: the header names no columns, or a row's quotes don't close, or it is too long.
    """
    csv.field_size_limit(2**31 - 1)
    feed = _Feed(lines, name)
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while (row := _next_row(rows, feed)) is not None:
        origin, is_bad = feed.origin, feed.is_unreadable
        if header is not None and feed.num_lines > MIN_SWALLOWED:
            for line, num_lines in swallowed(row, len(header), delimiter):
                tell(_swallows(f"{name}:{feed.first_line + line}", num_lines))
        feed.begin_row()
        if header is None:
            header = _header(row, origin, encoding, is_bad=is_bad)
        elif not row:
            continue
        elif is_bad:
            yield unreadable_row(origin, delimiter.join(row), encoding)
        elif len(row) != len(header):
            reason = f"this row has {len(row)} fields, the header {len(header)}."
            yield BadRow(origin, reason, delimiter.join(row))
        else:
            yield Record(dict(zip(header, row, strict=True)), origin)


class _Feed:
    """Gives lines to the csv reader, and knows where the row began that it reads."""

    def __init__(self, lines: Iterable[str | LongLine], name: str) -> None:
        self._lines = lines
        self._name = name
        self._line = 0
        self.begin_row()

    def begin_row(self) -> None:
        self.first_line = self._line + 1
        self._num_chars = 0
        self.is_unreadable = False

    @property
    def origin(self) -> str:
        return f"{self._name}:{self.first_line}"

    @property
    def num_lines(self) -> int:
        """Lines of the row so far."""
        return self._line - self.first_line + 1

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._line += 1
            if isinstance(line, LongLine):
                raise self._too_long()
            self._num_chars += len(line)
            if self._num_chars > encodings.MAX_ROW_CHARS:
                raise self._too_long()
            if not line.isascii() and is_unreadable(line):
                self.is_unreadable = True
            yield line

    def _too_long(self) -> DataError:
        return DataError(
            self.origin,
            f"this row has more than {encodings.MAX_ROW_CHARS:,} characters.",
            "A quote that does not close swallows the rows behind it: look for one there.",
        )


def swallowed(row: list[str], num_columns: int, delimiter: str) -> list[tuple[int, int]]:
    """The fields of a row that seem to hold further rows, as behind a quote that does not close.

    Each is given as the number of line breaks before it in the row and within it. Lines count as
    rows if they have as many fields as the header, of which the first and the last are not empty
    and none begins with a blank, as the fields of a sentence do. A quote that is doubled, as it
    must be in a field, tells of a text that was meant to be quoted.
    """
    found = []
    line = 0
    for field in row:
        first, *others = _LINE_END.split(field)
        filled = [other for other in others if other.strip()]
        num_rows = sum(_is_like_a_row(other, num_columns, delimiter) for other in filled)
        if first and num_rows >= max(MIN_SWALLOWED, SHARE_SWALLOWED * len(filled)):
            found.append((line, len(others)))
        line += len(others)
    return found


def _is_like_a_row(line: str, num_columns: int, delimiter: str) -> bool:
    fields = line.split(delimiter)
    return (
        len(fields) == num_columns > 1
        and bool(fields[0] and fields[-1])
        and not any(field[:1].isspace() or ('"' in field and field != '"') for field in fields)
    )


def _swallows(origin: str, num_lines: int) -> str:
    return (
        f"warning: {origin}: a quoted field that opens here goes over {num_lines} line ends and "
        "seems to hold rows of its own. If a quote is not closed there, these rows are lost in it."
    )


def _next_row(rows: Iterator[list[str]], feed: _Feed) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise DataError(
            feed.origin,
            f"this row's quotes don't close or don't match ({error}).",
            'Double a quote inside a quoted field ("") and close every quote.',
        ) from None


def _header(row: list[str], origin: str, encoding: str, *, is_bad: bool) -> list[str]:
    names = [name.strip() for name in row]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if is_bad or not any(names) or twice:
        what = f"has bytes that are not {encoding}" if is_bad else "is empty"
        what = f"has column {twice[0]!r} twice" if twice and not is_bad else what
        raise DataError(origin, f"the header {what}.", "Give every column a name of its own.")
    return names
