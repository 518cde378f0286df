"""Records -> conversations, a function per layout.

Add a layout: write a function, add a line to LAYOUTS and to Source.layout in recipe.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from burnish.conversation import Conversation, Message, Record, Role
from burnish.errors import DataError
from burnish.recipe import Columns, Source

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
}


class MissingPart(Exception):
    """A record in which the question or the answer is empty or absent."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


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
    return None


def layout_of(source: Source, first: Record, place: str = "data.sources[0]") -> str:
    """The layout to read a source by.

    Args:
        source: where the record is from.
        first: the first record of the source.
        place: where the source stands in the recipe, for the message of an error.

    Raises:
        DataError: it can't be told from the first record, or a named column is not there.
    """
    if source.columns is not None:
        _check_columns(source.columns, first, place)
        return "alpaca"
    layout = guess_layout(first.fields) if source.layout == "auto" else source.layout
    needed = _NEEDED.get(layout or "", ())
    missing = [name for name in needed if name not in first.fields]
    if layout is None or missing:
        columns = ", ".join(map(str, first.fields)) or "none"
        part = "question" if missing and missing[0] == needed[0] else "answer"
        raise DataError(
            first.origin,
            f"no {part} in this row; its columns are {columns}.",
            f"Name the columns under {place}.columns, for example "
            "{instruction: ask, output: answer}.",
        )
    return layout


_NEEDED = {
    "alpaca": ("instruction", "output"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
}


def _check_columns(columns: Columns, first: Record, place: str) -> None:
    for part in ("instruction", "input", "output", "system"):
        for name in _names(getattr(columns, part), default=[]):
            if name not in first.fields:
                raise DataError(
                    first.origin,
                    f"no column {name!r} in this row; its columns are "
                    f"{', '.join(map(str, first.fields))}.",
                    f"Name the right column under {place}.columns.{part}.",
                )
    asked = columns.instruction or columns.input or "instruction" in first.fields
    answered = columns.output or "output" in first.fields
    for found, part, example in (
        (asked, "question", "instruction: ask"),
        (answered, "answer", "output: answer"),
    ):
        if not found:
            raise DataError(
                first.origin,
                f"no {part} in this row; its columns are {', '.join(map(str, first.fields))}.",
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
    return (*([Message("system", system)] if system.strip() else []), *messages)


def prompt_completion(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """Prompt / completion, texts or lists of messages (TRL's names)."""
    prompt, completion = record.fields.get("prompt"), record.fields.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return tuple(_turn(turn, "role", "content") for turn in [*prompt, *completion])
    return (Message("user", _text(prompt)), Message("assistant", _text(completion)))


def messages(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """A list of {role, content} under `messages` (OpenAI's names)."""
    return tuple(_turn(turn, "role", "content") for turn in _list(record, "messages"))


def sharegpt(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """A list of {from, value} under `conversations`, a system prompt beside it."""
    turns = [_turn(turn, "from", "value") for turn in _list(record, "conversations")]
    system = _text(record.fields.get("system"))
    if system.strip() and turns and turns[0].role != "system":
        turns.insert(0, Message("system", system))
    return tuple(turns)


LAYOUTS: dict[str, Callable[[Record, Columns | None], tuple[Message, ...]]] = {
    "alpaca": alpaca,
    "messages": messages,
    "sharegpt": sharegpt,
    "prompt_completion": prompt_completion,
}
"""How a record becomes messages, by the name of its layout."""


def to_conversation(record: Record, layout: str, columns: Columns | None) -> Conversation:
    """The conversation of a record.

    Raises:
        MissingPart: the question or the answer is empty, or the turns make no conversation.
    """
    turns = LAYOUTS[layout](record, columns)
    if not any(turn.role == "user" and turn.content.strip() for turn in turns):
        raise MissingPart("no_question", "there is no question in this row.")
    if turns[-1].role != "assistant":
        raise MissingPart("no_answer", "the conversation does not end with the assistant.")
    if any(turn.role == "assistant" and not turn.content.strip() for turn in turns):
        raise MissingPart("no_answer", "the answer of this row is empty.")
    return Conversation(turns, record.origin)


def _names(value: str | list[str] | None, *, default: list[str]) -> list[str]:
    if value is None:
        return default
    return [value] if isinstance(value, str) else value


def _joined(record: Record, names: list[str]) -> str:
    texts = [_text(record.fields.get(name)) for name in names]
    return "\n".join(text for text in texts if text.strip())


def _list(record: Record, name: str) -> list[Any]:
    value = record.fields.get(name)
    if not isinstance(value, list):
        raise MissingPart("unreadable", f"{name} is no list of turns in this row.")
    return value


def _turn(turn: Any, role_key: str, content_key: str) -> Message:
    if not isinstance(turn, Mapping):
        raise MissingPart("unreadable", "a turn of this row is no object.")
    other = {"role": "from", "content": "value", "from": "role", "value": "content"}
    speaker = turn.get(role_key, turn.get(other[role_key]))
    said = turn.get(content_key, turn.get(other[content_key]))
    role = _ROLES.get(str(speaker).lower())
    if role is None:
        raise MissingPart("unreadable", f"a turn of this row has the unknown role {speaker!r}.")
    return Message(role, _text(said))


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN, an empty cell of pandas, differs from itself
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            reason = "a text holds half a character (a lone surrogate)."
            raise MissingPart("unreadable", reason) from None
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise MissingPart("unreadable", f"a text was expected; found {type(value).__name__}.")
