"""Copies of messages in which every name and result of a tool is a word of its own.

Rendered once, they show whether a chat template writes tools, calls and results at all. The names
themselves would not do: they may stand in the text for another reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.conversation import Message


@dataclass
class Marked:
    """The copies, and the words of each kind in them: tools, tool calls, tool results."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    words: list[tuple[str, str]] = field(default_factory=list)

    def not_in(self, text: str) -> str | None:
        """The kind of the first word that a rendered text lacks, or None if all are there."""
        return next((kind for kind, word in self.words if word not in text), None)

    def _word(self, kind: str) -> str:
        word = f"q{len(self.words)}xyzzy"
        self.words.append((kind, word))
        return word

    def _message(self, message: Message) -> Message:
        if message.role == "tool" and message.content.strip():
            return replace(message, content=self._word("tool results"))
        if not message.tool_calls:
            return message
        calls = tuple(map(self._call, message.tool_calls))
        said = self._word("words beside tool calls") if message.content.strip() else ""
        return replace(message, content=said, tool_calls=calls)

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        key, value = self._word("tool calls"), self._word("tool calls")
        return {"name": self._word("tool calls"), "arguments": {**call["arguments"], key: value}}

    def _tool(self, tool: dict[str, Any]) -> dict[str, Any]:
        return {**tool, "function": {**tool["function"], "name": self._word("tools")}}


def mark_tools(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Marked:
    """The messages and tools with words in place of names and results, and those words."""
    marked = Marked()
    marked.tools = [marked._tool(tool) for tool in tools]
    marked.messages = [marked._message(message) for message in messages]
    return marked
