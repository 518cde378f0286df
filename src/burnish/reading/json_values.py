"""Values of JSON, read so that nothing is lost: no key stands twice, numbers are as written."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

MAX_DEPTH = 100
"""A row of lists within lists, so many deep, is no example, and can't be copied between processes
or written back."""


def decode(text: str) -> Any:
    """The value that a text is.

    Raises:
        ValueError: it is no JSON, or a key stands twice in one object.
        RecursionError: it is nested far too deeply.
    """
    return _DECODER.decode(text)


def decode_at(text: str, position: int) -> tuple[Any, int]:
    """The value that begins at a position, and its end; an error for JSON that we don't read.

    Raises:
        JSONDecodeError: it is no JSON.
        RecursionError: it is nested far too deeply.
    """
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        return error, _LENIENT_DECODER.raw_decode(text, position)[1]


def why_no_json(error: ValueError | RecursionError) -> str:
    """The reason why a text could not be decoded, a sentence."""
    if isinstance(error, json.JSONDecodeError):
        return f"this is not JSON: {error.msg} at column {error.colno}."
    if isinstance(error, RecursionError):
        return "this JSON is nested too deeply."
    return f"this JSON can't be read: {error}."


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie within one another, more than MAX_DEPTH deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


class WrittenFloat(float):
    """A number that is shown as it is written in its file: `3.50`, `1.0e5`."""

    def __new__(cls, written: str) -> WrittenFloat:
        """The number that JSON writes so."""
        number = super().__new__(cls, written)
        number._written = written
        return number

    _written: str

    def __str__(self) -> str:
        return self._written

    def __reduce__(self) -> tuple[type[WrittenFloat], tuple[str]]:
        return type(self), (self._written,)


WrittenFloat.__name__ = "float"  # what a reader of a message knows


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a list of pairs; Python's own reader would keep the last of equal keys."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twin = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_without_twins, parse_float=WrittenFloat)
_LENIENT_DECODER = json.JSONDecoder(parse_int=str)
