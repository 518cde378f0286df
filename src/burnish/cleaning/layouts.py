"""Records -> conversations, a function per layout.

Add a layout: write a function, add a line to LAYOUTS and to Source.layout in recipe.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.cleaning.transcripts import is_transcript, parse_transcript
from burnish.cleaning.turns import (
    MissingPart,
    from_json,
    is_absent,
    message_of,
    text_of,
    tools_of,
)
from burnish.conversation import Conversation, Message, Record
from burnish.errors import DataError
from burnish.recipe import Columns, Source

TEXT_NAMES = ("text", "dialogue", "dialog", "conversation", "content")
"""Names by which a column that holds a whole transcript is recognised, the likeliest first."""

NUM_LOOKED_AT = 100
"""So many rows at the start of a file say what its columns are; not each row must have them all."""

_WITH_TOOLS = ("messages", "sharegpt")
_PAIRS_AS_TEXT = re.compile(r"\s*\[\s*\[")


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
    columns = ", ".join(names) or "none"
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
    names = [_text_column(row.fields, source.columns, source.layout) for row in rows]
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


def _text_column(fields: Mapping[str, Any], columns: Columns | None, layout: str) -> str | None:
    """The column that holds a row's one text, or None where it can't be told."""
    if columns is not None and columns.text:
        return columns.text
    names = ("text",) if layout == "text" else TEXT_NAMES
    named = [name for name in names if name in fields]
    texts = _text_columns(fields) if layout == "transcript" else []
    return named[0] if named else texts[0] if len(texts) == 1 else None


def _check_columns(columns: Columns, rows: Sequence[Record], place: str) -> None:
    for part in ("instruction", "input", "output", "system", "history"):
        for name in _names(getattr(columns, part), default=[]):
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


def alpaca(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """Instruction / input / output, under these or the recipe's names."""
    names = columns or Columns()
    instruction = _joined(record, _names(names.instruction, default=["instruction"]))
    context = _joined(record, _names(names.input, default=["input"]))
    output = _joined(record, _names(names.output, default=["output"]))
    system = _joined(record, _names(names.system, default=["system"]))
    if not instruction.strip() and context.strip():
        instruction, context = context, ""
    messages = [Message("user", instruction, context), Message("assistant", output)]
    begin = [Message("system", system)] if system.strip() else []
    return (*begin, *_history(record, names.history), *messages)


def _history(record: Record, name: str | None) -> list[Message]:
    """Earlier turns; a column of that name that the recipe does not speak of may hold others."""
    value = record.fields.get(name or "history")
    if is_absent(value) or (name is None and not _looks_like_pairs(value)):
        return []
    pairs = from_json(value, "the history")
    if not (isinstance(pairs, list) and all(_is_pair(pair) for pair in pairs)):
        raise MissingPart("unreadable", "the history is no list of [question, answer] pairs.")
    turns: list[Message] = []
    for question, answer in pairs:
        turns += [Message("user", text_of(question)), Message("assistant", text_of(answer))]
    return turns


def _looks_like_pairs(value: Any) -> bool:
    if isinstance(value, str):
        return _PAIRS_AS_TEXT.match(value) is not None
    return isinstance(value, list) and bool(value) and _is_pair(value[0])


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def prompt_completion(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """Prompt / completion, texts or lists of messages (TRL's names)."""
    prompt, completion = record.fields.get("prompt"), record.fields.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return tuple(message_of(turn, "role", "content") for turn in [*prompt, *completion])
    return (Message("user", text_of(prompt)), Message("assistant", text_of(completion)))


def messages(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """A list of {role, content} under `messages` (OpenAI's names)."""
    return tuple(message_of(turn, "role", "content") for turn in _list(record, "messages"))


def sharegpt(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """A list of {from, value} under `conversations`, a system prompt beside it.

    Of preference data, whose conversations end with a question, the `chosen` answer is taken.
    """
    turns = [message_of(turn, "from", "value") for turn in _list(record, "conversations")]
    system = text_of(record.fields.get("system"))
    if system.strip() and turns and turns[0].role != "system":
        turns.insert(0, Message("system", system))
    chosen = record.fields.get("chosen")
    if turns and turns[-1].role == "user" and isinstance(chosen, Mapping):
        turns.append(message_of(chosen, "from", "value"))
    return tuple(turns)


def transcript(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """Turns told apart by markers such as `<user>:` and `<bot>:` in one text."""
    turns = parse_transcript(_passage(record, columns, "transcript"))
    if turns is None:
        reason = "no turns of two sides, such as `User:` and `Bot:`, stand in this text."
        raise MissingPart("unreadable", reason)
    return turns


def text(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """A passage of plain text, for continued pre-training."""
    return (Message("text", _passage(record, columns, "text")),)


def _passage(record: Record, columns: Columns | None, layout: str) -> str:
    name = _text_column(record.fields, columns, layout)
    passage = text_of(record.fields.get(name)) if name else ""
    if not passage.strip():
        raise MissingPart("no_text", "there is no text in this row.")
    return passage


LAYOUTS: dict[str, Callable[[Record, Columns | None], tuple[Message, ...]]] = {
    "alpaca": alpaca,
    "messages": messages,
    "sharegpt": sharegpt,
    "prompt_completion": prompt_completion,
    "transcript": transcript,
    "text": text,
}
"""How a record becomes messages, by the name of its layout."""


def to_conversation(record: Record, layout: str, columns: Columns | None) -> Conversation:
    """The conversation of a record.

    Raises:
        MissingPart: question, answer or passage are empty, or the turns make no conversation.
    """
    turns = LAYOUTS[layout](record, columns)
    if layout != "text":
        _check_turns(turns)
    tools = tools_of(record.fields.get("tools")) if layout in _WITH_TOOLS else ()
    return Conversation(turns, record.origin, tools)


def _check_turns(turns: tuple[Message, ...]) -> None:
    if not any(turn.role == "user" and turn.content.strip() for turn in turns):
        raise MissingPart("no_question", "there is no question in this row.")
    if turns[-1].role != "assistant":
        raise MissingPart("no_answer", "the conversation does not end with the assistant.")
    roles = [turn.role for turn in turns]
    if "user" not in roles[: roles.index("assistant")]:
        raise MissingPart("no_question", "the assistant speaks before any question.")
    if any(_says_nothing(turn) for turn in turns if turn.role == "assistant"):
        raise MissingPart("no_answer", "the answer of this row is empty.")


def _says_nothing(turn: Message) -> bool:
    return not turn.content.strip() and not turn.tool_calls


def column_value(record: Record, name: str) -> str:
    """The value of a column as text; empty where the cell is.

    Raises:
        MissingPart: the row has no such column, or no text or number in it.
    """
    if name not in record.fields:
        raise MissingPart("unreadable", f"there is no column {name!r} in this row.")
    return text_of(record.fields[name])


def _names(value: str | list[str] | None, *, default: list[str]) -> list[str]:
    if value is None:
        return default
    return [value] if isinstance(value, str) else value


def _joined(record: Record, names: list[str]) -> str:
    texts = [text_of(record.fields.get(name)) for name in names]
    return "\n".join(text for text in texts if text.strip())


def _list(record: Record, name: str) -> list[Any]:
    value = record.fields.get(name)
    if not isinstance(value, list):
        raise MissingPart("unreadable", f"{name} is no list of turns in this row.")
    return value
