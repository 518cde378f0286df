"""Keep-or-drop rules: each says why a conversation is not kept, or None.

Add a rule: write a function, add a line to RULES and a switch to CleanSection.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from burnish.conversation import Conversation, Rejection
from burnish.recipe import CleanSection

_PLACEHOLDER = re.compile(
    r"(?:<?no ?(?:input|output)>?|n/?a|none|null|nan|无|暂无|略|待补充|tbd|todo)[.。]?",
    re.IGNORECASE,
)


def too_short(conversation: Conversation, section: CleanSection) -> str | None:
    """The last answer has fewer characters than the recipe asks for, or another one has none."""
    if not all(m.content.strip() for m in conversation.messages[:-1] if m.role == "assistant"):
        return "nothing but markup or blanks stands in an answer before the last."
    length = len(conversation.answer.strip())
    if length >= section.min_answer_chars:
        return None
    return f"the answer has {length} characters, fewer than {section.min_answer_chars}."


def no_question(conversation: Conversation, section: CleanSection) -> str | None:
    """Nothing is left of the question after repair."""
    if any(m.role == "user" and m.content.strip() for m in conversation.messages):
        return None
    return "nothing but markup or blanks stands in the question."


def truncated(conversation: Conversation, section: CleanSection) -> str | None:
    """The answer ends in a comma or colon."""
    if not section.drop_truncated or not conversation.answer.rstrip().endswith(tuple(",:，：、")):
        return None
    return f"the answer ends in {conversation.answer.rstrip()[-1]!r}, so it seems cut off."


def echo(conversation: Conversation, section: CleanSection) -> str | None:
    """The answer repeats the question."""
    if not section.drop_echo:
        return None
    asked = {_squeezed(m.content) for m in conversation.question if m.role == "user"}
    if _squeezed(conversation.answer) not in asked:
        return None
    return "the answer repeats the question."


def placeholder(conversation: Conversation, section: CleanSection) -> str | None:
    """The answer only says that there is none."""
    if not section.drop_placeholders or not _PLACEHOLDER.fullmatch(conversation.answer.strip()):
        return None
    return f"the answer {conversation.answer.strip()!r} only stands for one."


RULES: dict[str, Callable[[Conversation, CleanSection], str | None]] = {
    "no_question": no_question,
    "too_short": too_short,
    "placeholder": placeholder,
    "truncated": truncated,
    "echo": echo,
}
"""The rules in the order in which they are asked, by the name under which they reject."""


def first_broken_rule(conversation: Conversation, section: CleanSection) -> Rejection | None:
    """The rejection by the first rule that a conversation breaks, or None."""
    for name, rule in RULES.items():
        reason = rule(conversation, section)
        if reason is not None:
            return Rejection(conversation.origin, name, reason, show(conversation))
    return None


def show(conversation: Conversation) -> str:
    """A conversation as plain text, for rejected.jsonl."""
    return "\n".join(
        f"{m.role}: {m.content}" + (f"\ninput: {m.input}" if m.input else "")
        for m in conversation.messages
    )


def same_key(conversation: Conversation) -> tuple[str, ...]:
    """What two equal conversations have in common: all their words; any blanks count as one."""
    return tuple(
        f"{m.role}\x1f{_squeezed(m.content)}\x1f{_squeezed(m.input)}" for m in conversation.messages
    )


def _squeezed(text: str) -> str:
    return " ".join(text.split())
