"""The layout of a file, by the names of its columns and the first rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.cleaning.transcripts import is_transcript
from burnish.cleaning.turns import is_absent
from burnish.conversation import Record
from burnish.errors import DataError
from burnish.reading.folders import printable
from burnish.recipe import Columns, Source

TEXT_NAMES = ("text", "dialogue", "dialog", "conversation", "content")
"""Names by which a column that holds a whole transcript is recognised, the likeliest first."""

NUM_LOOKED_AT = 100
"""So many rows at the start of a file say what its columns are; not each row must have them all."""


NUM_LISTED = 20
"""So many columns are named in a message."""


def guess_layout(fields: Mapping[str, Any]) -> str | None:
    """The layout of a record by the names of its fields, or None."""
    if isinstance(fields.get("messages"), list):
        return "messages"
    if isinstance(fields.get("conversations"), list):
        return "sharegpt"
    if "prompt" in fields and "completion" in fields:
        return "prompt_completion"
    if "instruction" in fields and "output" in fields:
        return "alpaca"
    texts = _text_columns(fields)
    if len(texts) == 1 and is_transcript(fields[texts[0]]):
        return "transcript"
    return "text" if list(fields) == ["text"] and isinstance(fields["text"], str) else None


def _text_columns(fields: Mapping[str, Any]) -> list[str]:
    """The columns that hold text, numbers aside."""
    return [name for name, value in fields.items() if isinstance(value, str) and _has_words(value)]


def _has_words(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False


def layout_of(source: Source, rows: Sequence[Record], place: str = "data.sources[0]") -> str:
    """The layout to read a file by: the one that fits most of its first rows.

    Args:
        source: where the records are from.
        rows: records from the beginning of the file, at least one; the first 100 are looked at.
        place: where the source stands in the recipe, for the message of an error.

    Raises:
        DataError: none of these rows tells it, or has a named column.
    """
    rows = rows[:NUM_LOOKED_AT]
    wants_text = source.columns is not None and source.columns.text and source.layout == "auto"
    if wants_text or source.layout in ("transcript", "text"):
        return _layout_of_text(source, rows, place)
    if source.columns is not None:
        _check_columns(source.columns, rows, place)
        return "alpaca"
    layout = common_layout(rows, source.layout)
    if layout:
        return layout
    needed = _NEEDED.get(source.layout, ())
    part = "question" if needed and not _have(rows, needed[0]) else "answer"
    raise DataError(
        rows[0].origin,
        f"no {part} {_in_rows(rows)}.",
        f"Name the columns under {place}.columns, for example "
        "{instruction: ask, output: answer}.",
    )


def common_layout(rows: Sequence[Record], layout: str = "auto") -> str | None:
    """The layout that fits most of the rows, the earlier of two that fit as many, or None."""
    guesses = (_guess(row.fields, layout) for row in rows[:NUM_LOOKED_AT])
    fitting = Counter(guess for guess in guesses if guess)
    return fitting.most_common(1)[0][0] if fitting else None


def _guess(fields: Mapping[str, Any], layout: str) -> str | None:
    """The layout that a row fits, of all or of the one that the recipe names."""
    if layout == "auto":
        return guess_layout(fields)
    return layout if all(name in fields for name in _NEEDED[layout]) else None


def _have(rows: Sequence[Record], name: str) -> bool:
    return any(name in row.fields for row in rows)


def _in_rows(rows: Sequence[Record]) -> str:
    """Where something was looked for in vain, for a message."""
    names = list(dict.fromkeys(str(name) for row in rows for name in row.fields))
    columns = listed(names)
    if len(names) == len(rows[0].fields):
        return f"in this row; its columns are {columns}"
    return f"in the first {len(rows)} rows; their columns are {columns}"


_NEEDED = {
    "alpaca": ("instruction", "output"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
}


def _layout_of_text(source: Source, rows: Sequence[Record], place: str) -> str:
    names = [text_column(row.fields, source.columns, source.layout) for row in rows]
    texts = [
        row.fields[name]
        for row, name in zip(rows, names, strict=True)
        if name is not None and name in row.fields
    ]
    if not texts:
        what = "no column with the text" if names[0] is None else f"no column {names[0]!r}"
        raise DataError(
            rows[0].origin,
            f"{what} {_in_rows(rows)}.",
            f"Name the right column under {place}.columns.text.",
        )
    if source.layout != "auto":
        return source.layout
    first = next((text for text in texts if not is_absent(text)), "")
    return "transcript" if isinstance(first, str) and is_transcript(first) else "text"


def text_column(fields: Mapping[str, Any], columns: Columns | None, layout: str) -> str | None:
    """The column that holds a row's one text, or None where it can't be told."""
    if columns is not None and columns.text:
        return columns.text
    names = ("text",) if layout == "text" else TEXT_NAMES
    named = [name for name in names if name in fields]
    texts = _text_columns(fields) if layout == "transcript" else []
    return named[0] if named else texts[0] if len(texts) == 1 else None


def listed(names: Sequence[str]) -> str:
    """The names of columns for a message: the first NUM_LISTED, on one line."""
    shown = [printable(name) for name in names[:NUM_LISTED]]
    if len(names) > NUM_LISTED:
        shown.append(f"... ({len(names):,} in all)")
    return ", ".join(shown) or "none"


def column_names(value: str | list[str] | None, *, default: list[str]) -> list[str]:
    """The columns that the recipe names for a part of the conversation."""
    if value is None:
        return default
    return [value] if isinstance(value, str) else value


def _check_columns(columns: Columns, rows: Sequence[Record], place: str) -> None:
    for part in ("instruction", "input", "output", "system", "history"):
        for name in column_names(getattr(columns, part), default=[]):
            if not _have(rows, name):
                raise DataError(
                    rows[0].origin,
                    f"no column {name!r} {_in_rows(rows)}.",
                    f"Name the right column under {place}.columns.{part}.",
                )
    asked = columns.instruction or columns.input or _have(rows, "instruction")
    answered = columns.output or _have(rows, "output")
    for found, part, example in (
        (asked, "question", "instruction: ask"),
        (answered, "answer", "output: answer"),
    ):
        if not found:
            raise DataError(
                rows[0].origin,
                f"no {part} {_in_rows(rows)}.",
                f"Name the {part}'s column under {place}.columns, for example {{{example}}}.",
            )
