"""Records -> conversations, a function per layout.

Add a layout: write a function, add a line to LAYOUTS and to Source.layout in recipe.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from burnish.cleaning.detection import column_names, text_column
from burnish.cleaning.transcripts import parse_transcript
from burnish.cleaning.turns import (
    MissingPart,
    from_json,
    is_absent,
    message_of,
    text_of,
    tools_of,
)
from burnish.conversation import Conversation, Message, Record
from burnish.recipe import Columns

_WITH_TOOLS = ("messages", "sharegpt")
_PAIRS_AS_TEXT = re.compile(r"\s*\[\s*\[")


def alpaca(record: Record, columns: Columns | None) -> tuple[Message, ...]:
    """Instruction / input / output, under these or the recipe's names."""
    names = columns or Columns()
    instruction = _joined(record, column_names(names.instruction, default=["instruction"]))
    context = _joined(record, column_names(names.input, default=["input"]))
    output = _joined(record, column_names(names.output, default=["output"]))
    system = _joined(record, column_names(names.system, default=["system"]))
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
    name = text_column(record.fields, columns, layout)
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


def _joined(record: Record, names: list[str]) -> str:
    texts = [text_of(record.fields.get(name)) for name in names]
    return "\n".join(text for text in texts if text.strip())


def _list(record: Record, name: str) -> list[Any]:
    value = record.fields.get(name)
    if not isinstance(value, list):
        raise MissingPart("unreadable", f"{name} is no list of turns in this row.")
    return value
