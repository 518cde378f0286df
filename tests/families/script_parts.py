"""What a script of a family is made of.

A script is a list of parts: a text, and the number of the message that answers with it, or None.
It is written from the description of the format, message by message; no template is rendered. What
answers is what a model must write itself: its words as the format has them, and the token that
ends its turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from burnish.conversation import Message

Part = tuple[str, int | None]
Tools = Sequence[dict[str, Any]]


class Refused(Exception):
    """The format has no place for this conversation, or does not say what is to be learned."""


def as_json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def system_of(messages: Sequence[Message]) -> tuple[str | None, list[tuple[int, Message]]]:
    """The system prompt, and the other messages with their numbers."""
    numbered = list(enumerate(messages))
    if messages[0].role == "system":
        return messages[0].content, numbered[1:]
    return None, numbered


def only_last_is_learned(messages: Sequence[Message]) -> bool:
    learned = [i for i, m in enumerate(messages) if m.role == "assistant" and m.train]
    return learned == [len(messages) - 1]
