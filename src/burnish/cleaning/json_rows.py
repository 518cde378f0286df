"""JSON text -> records: a list of objects, or an object a line.

Where several rows of a list begin on one line, the column follows in their origin
(`rows.json:1:58`), so that every origin names one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from burnish.conversation import BadRow, Record
from burnish.errors import DataError


def json_lines(text: str, name: str) -> Iterator[Record | BadRow]:
    """The rows of JSON lines, an object a line; empty lines are no rows."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        origin = f"{name}:{number}"
        try:
            yield _json_record(_DECODER.decode(line), origin)
        except (ValueError, RecursionError) as error:
            yield BadRow(origin, _why_no_json(error), line)


def json_list(text: str, name: str) -> Iterator[Record | BadRow]:
    """The rows of a JSON list of objects, one by one.

    Raises:
        DataError: the text is not one whole list; the message names the line.
    """
    position = text.index("[") + 1
    line, line_start, counted, line_before = 1, 0, 0, 0
    while True:
        position = _skip(text, position, " \t\r\n,")
        if "\n" in text[counted:position]:
            line += text.count("\n", counted, position)
            line_start = text.rindex("\n", counted, position) + 1
        column = f":{position - line_start + 1}" if line == line_before else ""
        origin = f"{name}:{line}{column}"
        counted, line_before = position, line
        if text[position : position + 1] in ("]", ""):
            break
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            raise _broken_list(f"{name}:{at}", _why_no_json(error)) from None
        yield _json_record(value, origin)
    if not text[position:]:
        raise _broken_list(origin, "the list of rows is not closed; the file seems cut off.")
    if text[position + 1 :].strip():
        raise _broken_list(origin, "the list of rows ends here, but the file goes on.")


def _broken_list(where: str, problem: str) -> DataError:
    return DataError(where, problem, "Mend the file there; what follows can't be told apart.")


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def refuse_lone_object(text: str, name: str) -> None:
    """Refuses objects over several lines: read as JSON lines, every line would be a broken row.

    Raises:
        DataError: the first object of the text does not end on its line.
    """
    first = text.lstrip().partition("\n")[0].strip()
    if first == "{" or (first.startswith("{") and _starts_long_object(text)):
        raise DataError(
            name,
            "this file is neither a list of rows nor a row on each line: its first object goes "
            "over several lines.",
            "Write the rows as a JSON list, [{...}, {...}], or one object a line.",
        )


def _starts_long_object(text: str) -> bool:
    start = len(text) - len(text.lstrip())
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return False
    return "\n" in text[start:end]


def _why_no_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"this is not JSON: {error.msg} at column {error.colno}."
    if isinstance(error, RecursionError):
        return "this JSON is nested too deeply."
    return f"this JSON can't be read: {error}."


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a list of pairs; Python's own reader would keep the last of equal keys."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_without_twins)


def _json_record(value: Any, origin: str) -> Record | BadRow:
    if isinstance(value, dict):
        return Record(value, origin)
    return BadRow(origin, f"a row is an object; found {type(value).__name__}.", json.dumps(value))
