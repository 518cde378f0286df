"""Personal data of a whole row: in what is said, in function calls, in tools, in raw text.

A value of JSON keeps its structure: strings are masked where they stand, keys too. The key before a
value is read as its cue (`{"微信": "abc123"}`). A whole number that is a datum (`13812345678`)
becomes a string with the mark.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from burnish.cleaning.privacy import Finding, mask
from burnish.conversation import Conversation, Message
from burnish.recipe import PrivacySettings

_LEAST_NUMBER = 10_000
"""No smaller number is a datum of any kind."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([nrtbf/\"\\]))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Masked:
    """A string in which personal data were found.

    Attributes:
        field: where it stands, such as `messages[1].content` or `tools[0].function.description`.
        text: the string with marks in place of the data.
        findings: the data.
    """

    field: str
    text: str
    findings: list[Finding]


_TEXTS = ("content", "input", "reasoning_content", "name", "tool_call_id")
"""The parts of a message that are one text."""


def is_hidden(privacy: PrivacySettings) -> bool:
    """Whether personal data must not be written to disk."""
    return privacy.action in ("mask", "drop")


def mask_conversation(
    conversation: Conversation, privacy: PrivacySettings
) -> tuple[Conversation, list[Masked]]:
    """The conversation with all personal data masked, and the strings in which there were any."""
    if privacy.action == "off":
        return conversation, []
    found: list[Masked] = []
    messages = tuple(
        _mask_message(message, privacy, f"messages[{index}]", found)
        for index, message in enumerate(conversation.messages)
    )
    tools = tuple(
        _mask_value(tool, privacy, f"tools[{number}]", found)
        for number, tool in enumerate(conversation.tools)
    )
    if not found:
        return conversation, found
    return replace(conversation, messages=messages, tools=tools), found


def _mask_message(
    message: Message, privacy: PrivacySettings, place: str, found: list[Masked]
) -> Message:
    num_found = len(found)
    texts: dict[str, Any] = {
        key: _look(getattr(message, key), privacy, f"{place}.{key}", found) for key in _TEXTS
    }
    calls = tuple(
        _mask_value(call, privacy, f"{place}.tool_calls[{number}]", found)
        for number, call in enumerate(message.tool_calls)
    )
    ids = tuple(
        _look(id_, privacy, f"{place}.tool_calls[{number}].id", found)
        for number, id_ in enumerate(message.call_ids)
    )
    if len(found) == num_found:
        return message
    return replace(message, **texts, tool_calls=calls, call_ids=ids)


def mask_json(value: Any, privacy: PrivacySettings) -> Any:
    """A value of JSON with all personal data masked."""
    return _mask_value(value, privacy, "", [])


def mask_raw(text: str, privacy: PrivacySettings) -> str:
    r"""The raw text of a row with all personal data masked.

    Escapes of JSON (`\n`, `\u6211`) are decoded where anything was found: a datum may be written
    with them, or stand right behind one.
    """
    decoded = _ESCAPE.sub(_unescaped, text) if "\\" in text else text
    masked, findings = mask(decoded, privacy.kinds, privacy.allow)
    return masked if findings else text


def mask_before(before: str, after: Masked | None, privacy: PrivacySettings) -> str:
    """The text before repair with all personal data masked.

    Markup or hidden characters inside a datum may hide it from the search; what was found only
    after the repair must not be read before it, so that the repaired text stands there then.
    """
    masked, findings = mask(before, privacy.kinds, privacy.allow)
    if after and _kinds(after.findings) - _kinds(findings):
        return after.text
    return masked


def _kinds(findings: list[Finding]) -> Counter[str]:
    return Counter(finding.kind for finding in findings)


def _look(text: str, privacy: PrivacySettings, place: str, found: list[Masked]) -> str:
    if not text:
        return ""
    masked, findings = mask(text, privacy.kinds, privacy.allow)
    if findings:
        found.append(Masked(place, masked, findings))
    return masked


def _mask_value(
    value: Any, privacy: PrivacySettings, place: str, found: list[Masked], cue: str = ""
) -> Any:
    if isinstance(value, str):
        return _look_behind(cue, value, privacy, place, found)
    if isinstance(value, int) and abs(value) >= _LEAST_NUMBER:
        masked = _look_behind(cue, str(value), privacy, place, found)
        return value if masked == str(value) else masked
    if isinstance(value, list):
        return [
            _mask_value(item, privacy, f"{place}[{number}]", found, cue)
            for number, item in enumerate(value)
        ]
    if isinstance(value, dict):
        return _mask_object(value, privacy, place, found)
    return value


def _mask_object(
    value: dict[Any, Any], privacy: PrivacySettings, place: str, found: list[Masked]
) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, item in value.items():
        mark, findings = mask(str(key), privacy.kinds, privacy.allow)
        if findings:
            key = _unused(mark, {**value, **result})
            found.append(Masked(f"{place}.{key} (key)", mark, findings))
        inner = f"{place}.{key}"
        result[key] = _mask_value(item, privacy, inner, found, cue=f"{mark}: ")
    return result


def _unused(key: str, used: dict[Any, Any]) -> str:
    """The key, numbered where it is taken: two masked keys must not become one."""
    numbered, number = key, 1
    while numbered in used:
        number += 1
        numbered = f"{key} ({number})"
    return numbered


def _look_behind(
    cue: str, text: str, privacy: PrivacySettings, place: str, found: list[Masked]
) -> str:
    """The text masked as it reads behind its key."""
    whole, findings = mask(cue + text, privacy.kinds, privacy.allow)
    if not findings:
        return text
    if not whole.startswith(cue):
        return _look(text, privacy, place, found)
    found.append(Masked(place, whole[len(cue) :], findings))
    return whole[len(cue) :]


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16))
    return _ESCAPED.get(escape[2], escape[2])
