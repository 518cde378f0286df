"""The words of the project: Record, Message, Conversation, Example.

A raw file holds records. A record becomes a conversation, a list of messages that ends with the
assistant. A conversation becomes an example, the token ids that a model trains on. Each keeps its
origin (`file:line`) all the way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

IGNORE_INDEX = -100
"""The label of a token that carries no loss (PyTorch's and Hugging Face's convention)."""

Role = Literal["system", "user", "assistant", "tool", "text"]
"""Who speaks. `text` is nobody: the one message of a passage for continued pre-training."""


TrainOn = Literal["all", "last", "each"]
"""Which answers of a row are learned, and whether each is an example of its own."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it stands in a file: its fields by name, and its origin (`file:line`)."""

    fields: dict[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be read as a record: its origin, the reason, and its text."""

    origin: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says in one turn.

    Attributes:
        role: who speaks.
        content: what is said.
        input: the context of an instruction (the `input` column of alpaca data); only with `user`.
        tool_calls: the functions that the assistant calls, each {"name": str, "arguments": dict}.
        reasoning_content: what the assistant thinks before it answers.
        train: whether this message carries loss; only the assistant's can.
        call_ids: what its calls are called by their results, one for each call (empty where it has
            none); nothing where no call has one.
        name: the function whose result this is; only with `tool`.
        tool_call_id: the id of the call whose result this is; only with `tool`.
    """

    role: Role
    content: str
    input: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    reasoning_content: str = ""
    train: bool = True
    call_ids: tuple[str, ...] = ()
    name: str = ""
    tool_call_id: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The message with Hugging Face's keys; what is empty or usual is left out."""
        value: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.input:
            value["input"] = self.input
        if self.reasoning_content:
            value["reasoning_content"] = self.reasoning_content
        if not self.train:
            value["train"] = False
        if self.tool_calls:
            ids = self.call_ids or ("",) * len(self.tool_calls)
            value["tool_calls"] = [
                ({"id": id_} if id_ else {}) | {"type": "function", "function": dict(call)}
                for call, id_ in zip(self.tool_calls, ids, strict=True)
            ]
        if self.name:
            value["name"] = self.name
        if self.tool_call_id:
            value["tool_call_id"] = self.tool_call_id
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Message:
        """The message that `as_dict` wrote."""
        calls = value.get("tool_calls") or ()
        ids = tuple(call.get("id") or "" for call in calls)
        return cls(
            value["role"],
            value["content"],
            value.get("input") or "",
            tuple(call["function"] for call in calls),
            value.get("reasoning_content") or "",
            value.get("train") is not False,
            ids if any(ids) else (),
            value.get("name") or "",
            value.get("tool_call_id") or "",
        )


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, with the origin of the row that they came from.

    Attributes:
        messages: the turns.
        origin: `file:line` of the row.
        tools: JSON schemas of the functions that the assistant may call.
        groups: what the row must share a split with: hashes of the first rows of its
            near-duplicates, of its question and of its column of that name. In a stratum, a
            name ends in the number of groups before it and the stratum: `hash/3/cardiology`.
        stratum: the value of the column by which splits are balanced.
        weight: how often the row is trained on.
    """

    messages: tuple[Message, ...]
    origin: str
    tools: tuple[dict[str, Any], ...] = ()
    groups: tuple[str, ...] = ()
    stratum: str = ""
    weight: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """A line of conversations.jsonl; what is empty or usual is left out."""
        value: dict[str, Any] = {
            "messages": [m.as_dict() for m in self.messages],
            "origin": self.origin,
        }
        if self.tools:
            value["tools"] = list(self.tools)
        if self.groups:
            value["groups"] = list(self.groups)
        if self.stratum:
            value["stratum"] = self.stratum
        if self.weight != 1.0:
            value["weight"] = self.weight
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Conversation:
        """The conversation that `as_dict` wrote."""
        return cls(
            messages=tuple(Message.from_dict(m) for m in value["messages"]),
            origin=value["origin"],
            tools=tuple(value.get("tools") or ()),
            groups=tuple(value.get("groups") or ()),
            stratum=value.get("stratum") or "",
            weight=float(value.get("weight") or 1.0),
        )

    def as_json(self) -> str:
        """The conversation on one line, as conversations.jsonl has it."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Conversation:
        """The conversation that `as_json` wrote."""
        return cls.from_dict(json.loads(text))

    def trained_on(self, answers: TrainOn) -> Conversation:
        """The conversation in which of all answers only the last carries loss, or itself."""
        if answers != "last":
            return self
        *earlier, last = self.messages
        quiet = (replace(m, train=False) if m.role == "assistant" else m for m in earlier)
        return replace(self, messages=(*quiet, last))

    def answers_apart(self) -> list[Conversation]:
        """One conversation for each answer that carries loss; it ends with that answer."""
        learned = (i for i, m in enumerate(self.messages) if m.role == "assistant" and m.train)
        return [replace(self, messages=self.messages[: i + 1]).trained_on("last") for i in learned]

    @property
    def question(self) -> tuple[Message, ...]:
        """Everything before the last assistant message; nothing in a passage of plain text."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """What the assistant says last, or the passage."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a conversation and the labels to learn from; both lists have one length.

    A label is the token's own id where it carries loss and IGNORE_INDEX elsewhere; labels are not
    shifted. `num_cut` tokens were cut from the end to keep to max_length.
    """

    input_ids: list[int]
    labels: list[int]
    origin: str
    num_cut: int = 0

    @property
    def num_supervised(self) -> int:
        """How many tokens carry loss."""
        return sum(label != IGNORE_INDEX for label in self.labels)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was not kept: the rule that it broke, the reason in words, and its text."""

    origin: str
    rule: str
    reason: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """A line of rejected.jsonl."""
        return {
            "origin": self.origin,
            "rule": self.rule,
            "reason": self.reason,
            "text": self.text,
        }
