"""Keep-or-drop rules: each says why a conversation is not kept, or None.

Add a rule: write a function, add a line to RULES and a switch to CleanSection.

A passage of plain text (role `text`) has no question and may end anywhere: rules about questions
and cut-off answers don't apply to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from burnish.cleaning.code_spans import without_code
from burnish.cleaning.languages import language_share
from burnish.cleaning.repetition import repeated_share
from burnish.cleaning.special_tokens import has_special_tokens
from burnish.conversation import Conversation, Message
from burnish.recipe import CleanSection

_PLACEHOLDER = re.compile(
    r"(?:<?no ?(?:input|output)>?|n/?a|none|null|nan|无|暂无|略|待补充|tbd|todo)[.。]?",
    re.IGNORECASE,
)


def no_question(conversation: Conversation, section: CleanSection) -> str | None:
    """Nothing is left of the question after repair."""
    if _is_passage(conversation) or _question_length(conversation):
        return None
    return "nothing but markup or blanks stands in the question."


def short_question(conversation: Conversation, section: CleanSection) -> str | None:
    """All that the user says together has fewer characters than the recipe asks for."""
    length = _question_length(conversation)
    if _is_passage(conversation) or not 0 < length < section.min_question_chars:
        return None
    return f"the question has {length} characters, fewer than {section.min_question_chars}."


def too_short(conversation: Conversation, section: CleanSection) -> str | None:
    """The last answer has fewer characters than the recipe asks for, or another one has none.

    An answer that calls functions may be empty.
    """
    spoken = [m for m in conversation.messages if m.role == "assistant" and not m.tool_calls]
    if not all(m.content.strip() for m in spoken if m is not conversation.messages[-1]):
        return "nothing but markup or blanks stands in an answer before the last."
    length = len(conversation.answer.strip())
    if length >= section.min_answer_chars or conversation.messages[-1].tool_calls:
        return None
    return f"the answer has {length} characters, fewer than {section.min_answer_chars}."


def too_long(conversation: Conversation, section: CleanSection) -> str | None:
    """The last answer has more characters than the recipe allows."""
    most = section.max_answer_chars
    length = len(conversation.answer.strip())
    if most is None or length <= most:
        return None
    return f"the answer has {length} characters, more than {most}."


def placeholder(conversation: Conversation, section: CleanSection) -> str | None:
    """The answer only says that there is none."""
    if not section.drop_placeholders or not _PLACEHOLDER.fullmatch(conversation.answer.strip()):
        return None
    return f"the answer {conversation.answer.strip()!r} only stands for one."


def truncated(conversation: Conversation, section: CleanSection) -> str | None:
    """The answer ends in a comma or colon, and no function call follows."""
    if not section.drop_truncated or not conversation.answer.rstrip().endswith(tuple(",:，：、")):
        return None
    if _is_passage(conversation) or conversation.messages[-1].tool_calls:
        return None
    return f"the answer ends in {conversation.answer.rstrip()[-1]!r}, so it seems cut off."


def echo(conversation: Conversation, section: CleanSection) -> str | None:
    """The answer repeats the question."""
    if not section.drop_echo:
        return None
    asked = {_squeezed(m.content) for m in conversation.question if m.role == "user"} - {""}
    if not asked or _squeezed(conversation.answer) not in asked:
        return None
    return "the answer repeats the question."


def special_tokens(conversation: Conversation, section: CleanSection) -> str | None:
    """A control token of a chat template, or a prompt marker, is left in the text."""
    if not section.drop_special_tokens:
        return None
    if not any(has_special_tokens(t) for m in conversation.messages for t in (m.content, m.input)):
        return None
    return "a control token of a chat template, or a prompt marker, is left in it."


def repetition(conversation: Conversation, section: CleanSection) -> str | None:
    """A greater share of the answer only repeats than the recipe allows (see `repeated_share`)."""
    most = section.max_repetition
    if most >= 1:
        return None
    share = repeated_share(conversation.answer, most)
    if share <= most:
        return None
    return f"{share:.0%} of the answer only repeats, more than {most:.0%}."


def language(conversation: Conversation, section: CleanSection) -> str | None:
    """Too few of the answer's letters, code aside, are in the scripts of the languages wanted."""
    if not section.languages:
        return None
    share = language_share(without_code(conversation.answer), section.languages)
    least = section.min_language_share
    if share is None or share >= least:
        return None
    names = ", ".join(section.languages)
    return f"{share:.0%} of the answer's letters are in {names}, less than {least:.0%}."


RULES: dict[str, Callable[[Conversation, CleanSection], str | None]] = {
    "no_question": no_question,
    "short_question": short_question,
    "too_short": too_short,
    "too_long": too_long,
    "placeholder": placeholder,
    "truncated": truncated,
    "echo": echo,
    "special_tokens": special_tokens,
    "repetition": repetition,
    "language": language,
}
"""The rules in the order in which they are asked, by the name under which they reject."""


def broken_rules(conversation: Conversation, section: CleanSection) -> list[tuple[str, str]]:
    """Every rule that a conversation breaks, with the reason; the first is why it is rejected."""
    return [
        (name, reason)
        for name, rule in RULES.items()
        if (reason := rule(conversation, section)) is not None
    ]


def show(conversation: Conversation) -> str:
    """A conversation as plain text, for rejected.jsonl; function calls as JSON."""
    return "\n".join(line for message in conversation.messages for line in _shown(message))


def _shown(message: Message) -> Iterator[str]:
    yield f"{message.role}: {message.content}"
    for key in ("input", "reasoning_content", "name", "tool_call_id"):
        if value := getattr(message, key):
            yield f"{key}: {value}"
    for call in message.as_dict().get("tool_calls", ()):
        id_ = {"id": call["id"]} if "id" in call else {}
        yield f"call: {json.dumps(id_ | call['function'], ensure_ascii=False)}"


def _is_passage(conversation: Conversation) -> bool:
    return conversation.messages[0].role == "text"


def _question_length(conversation: Conversation) -> int:
    """The characters of all that the user says."""
    return sum(
        len(m.content.strip()) + len(m.input.strip())
        for m in conversation.messages
        if m.role == "user"
    )


def _squeezed(text: str) -> str:
    return " ".join(text.split())
