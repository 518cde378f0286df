"""What a row holds in lists and JSON -> messages, function calls and tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from burnish.conversation import Message, Role
from burnish.reading.json_values import decode, is_deep

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
"""Who speaks, by the names that data sets give them."""

CALLING_ROLES = ("function_call", "tool_call")
"""Roles of turns whose text is the JSON of a call, or of a list of calls."""

_REASONING = ("reasoning_content", "thinking", "reasoning")

_OTHER_KEY = {"role": "from", "content": "value", "from": "role", "value": "content"}

_CallsWithIds = tuple[tuple[dict[str, Any], ...], tuple[str, ...]]


class MissingPart(Exception):
    """A record in which the question or the answer is empty, absent or can't be read."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


def is_absent(value: Any) -> bool:
    """Whether a field holds nothing: None, blanks, or the NaN of an empty cell of pandas."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or bool(isinstance(value, float) and value != value)


def text_of(value: Any) -> str:
    """The text of a field; a number as it is written, nothing for an absent one.

    Raises:
        MissingPart: it is no text and no finite number, or holds half a character.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            reason = "a text holds half a character (a lone surrogate)."
            raise MissingPart("unreadable", reason) from None
        return value
    if is_absent(value):
        return ""
    if isinstance(value, bool | int | float):
        if str(value) in ("inf", "-inf"):
            raise MissingPart("unreadable", "a text was expected; found an infinite number.")
        return str(value)
    raise MissingPart("unreadable", f"a text was expected; found {type(value).__name__}.")


def from_json(value: Any, what: str) -> Any:
    """A value that may stand as JSON text, read and found fit to be written as JSON again.

    Raises:
        MissingPart: it is no JSON, or holds what JSON or UTF-8 can't, or a key twice, or is deep.
    """
    try:
        value = decode(value) if isinstance(value, str) else value
        if is_deep(value):
            raise RecursionError
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise MissingPart("unreadable", f"{what} of this row is nested too deeply.") from None
    except (ValueError, TypeError):
        raise MissingPart("unreadable", f"{what} of this row is no valid JSON.") from None
    return value


def message_of(turn: Any, role_key: str, content_key: str) -> Message:
    """The message of an object such as {role, content} or {from, value}.

    Raises:
        MissingPart: it is none, or its role, content or calls can't be read.
    """
    if not isinstance(turn, Mapping):
        raise MissingPart("unreadable", "a turn of this row is no object.")
    speaker = turn.get(role_key, turn.get(_OTHER_KEY[role_key]))
    said = turn.get(content_key, turn.get(_OTHER_KEY[content_key]))
    name = str(speaker).lower()
    if name in CALLING_ROLES:
        trained = _is_trained(turn, "assistant")
        calls, ids = _spoken_calls(said)
        return Message("assistant", "", tool_calls=calls, train=trained, call_ids=ids)
    role = ROLES.get(name)
    if role is None:
        raise MissingPart("unreadable", f"a turn of this row has the unknown role {speaker!r}.")
    calls, ids = _calls(turn)
    if calls and role != "assistant":
        raise MissingPart("unreadable", f"a turn of this row calls a function as {speaker!r}.")
    thought = next((turn[key] for key in _REASONING if not is_absent(turn.get(key))), "")
    if thought and role != "assistant":
        raise MissingPart("unreadable", f"a turn of this row reasons as {speaker!r}.")
    is_result = role == "tool"
    return Message(
        role,
        _content(said),
        tool_calls=calls,
        reasoning_content=text_of(thought),
        train=_is_trained(turn, role),
        call_ids=ids,
        name=text_of(turn.get("name")) if is_result else "",
        tool_call_id=text_of(turn.get("tool_call_id")) if is_result else "",
    )


def _is_trained(turn: Mapping[str, Any], role: Role) -> bool:
    """Whether a turn says that it carries loss; `train` goes before OpenAI's `weight`."""
    key = next((key for key in ("train", "weight") if not is_absent(turn.get(key))), None)
    if key is None:
        return True
    value = turn[key]
    if value not in (0, 1):
        reason = f"{key} of a turn of this row is {value!r}; it may be 0 or 1, false or true."
        raise MissingPart("unreadable", reason)
    if value and role != "assistant":
        reason = (
            f"a turn of this row has {key}: {value!r}, but only the assistant's can be learned."
        )
        raise MissingPart("unreadable", reason)
    return bool(value) or role != "assistant"


def tools_of(value: Any) -> tuple[dict[str, Any], ...]:
    """The schemas of a list of functions, as JSON text or not, in Hugging Face's form.

    Raises:
        MissingPart: it is no list of functions with names.
    """
    if is_absent(value):
        return ()
    tools = from_json(value, "the list of tools")
    if not isinstance(tools, list):
        raise MissingPart("unreadable", "tools is no list of functions in this row.")
    return tuple(_tool(tool) for tool in tools)


def _tool(tool: Any) -> dict[str, Any]:
    function = _function(tool)
    if function is None:
        raise MissingPart("unreadable", "a tool of this row has no name.")
    return dict(tool) if "function" in tool else {"type": "function", "function": function}


def _function(value: Any) -> dict[str, Any] | None:
    """What has a name: the object itself, or what stands under `function` in it."""
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping):
        return None
    name = function.get("name")
    return dict(function) if isinstance(name, str) and name.strip() else None


def _content(said: Any) -> str:
    if not isinstance(said, list):
        return text_of(said)
    texts = []
    for part in said:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text":
            reason = f"a turn of this row has a part of the kind {kind!r}; only text is read."
            raise MissingPart("unreadable", reason)
        texts.append(text_of(part.get("text")))
    return "".join(texts)


def _calls(turn: Mapping[str, Any]) -> _CallsWithIds:
    calls, old_form = turn.get("tool_calls"), turn.get("function_call")
    if is_absent(calls):
        calls = [] if is_absent(old_form) else [old_form]
    if not isinstance(calls, list):
        raise MissingPart("unreadable", "tool_calls is no list in a turn of this row.")
    return _with_ids(calls)


def _spoken_calls(said: Any) -> _CallsWithIds:
    calls = from_json(said, "a function call")
    calls = calls if isinstance(calls, list) else [calls]
    if not calls:
        raise MissingPart("unreadable", "a function call of this row is empty.")
    return _with_ids(calls)


def _with_ids(calls: list[Any]) -> _CallsWithIds:
    """The calls, and as many ids; none where no call has one."""
    read = tuple(_call(call) for call in calls)
    ids = tuple(text_of(call.get("id")) for call in calls)
    return read, ids if any(ids) else ()


def _call(call: Any) -> dict[str, Any]:
    function = _function(call)
    if function is None:
        raise MissingPart("unreadable", "a function call of this row has no name.")
    arguments = function.get("arguments")
    arguments = {} if is_absent(arguments) else from_json(arguments, "the arguments of a call")
    if not isinstance(arguments, dict):
        raise MissingPart("unreadable", "the arguments of a call are no object in this row.")
    return {"name": text_of(function["name"]), "arguments": arguments}
