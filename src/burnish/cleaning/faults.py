"""What is wrong with the raw text of a row, whatever the recipe repairs: for ledger and audit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from burnish.cleaning.markup import has_entities, has_tags
from burnish.cleaning.special_tokens import has_special_tokens
from burnish.cleaning.text import is_garbled, strip_control
from burnish.conversation import Conversation

_HALFWIDTH = re.compile(r"[,;:!?](?<=[\u4e00-\u9fff].)(?=[\u4e00-\u9fff])")
_MARK_RUN = re.compile(r"([。！？，、；：!?~.…])\1\1")
_FULLWIDTH = re.compile("[０-９Ａ-Ｚａ-ｚ]")


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        words: what it is, for a reader of the audit.
        is_in: whether a text has it.
    """

    words: str
    is_in: Callable[[str], bool]


def _halfwidth_punctuation(text: str) -> bool:
    return not text.isascii() and _HALFWIDTH.search(text) is not None


def _mark_runs(text: str) -> bool:
    return _MARK_RUN.search(text) is not None


def _fullwidth_alphanumerics(text: str) -> bool:
    return not text.isascii() and _FULLWIDTH.search(text) is not None


def _ideographic_spaces(text: str) -> bool:
    return "\u3000" in text


def _replacement_characters(text: str) -> bool:
    return "\ufffd" in text


def _control_characters(text: str) -> bool:
    # Line ends of Windows are no fault.
    return not text.isprintable() and strip_control(plain := text.replace("\r\n", "\n")) != plain


FAULTS: dict[str, Fault] = {
    "halfwidth_punctuation": Fault(
        "half-width punctuation between Chinese characters", _halfwidth_punctuation
    ),
    "mark_runs": Fault("a mark three or more times in a row", _mark_runs),
    "fullwidth_alphanumerics": Fault(
        "full-width digits or Latin letters", _fullwidth_alphanumerics
    ),
    "html_tags": Fault("HTML tags", has_tags),
    "entities": Fault("HTML entities such as &nbsp;", has_entities),
    "ideographic_spaces": Fault("ideographic spaces (U+3000)", _ideographic_spaces),
    "control_characters": Fault("control or zero-width characters", _control_characters),
    "special_tokens": Fault(
        "control tokens of a chat template, or prompt markers", has_special_tokens
    ),
    "mojibake": Fault("text decoded with the wrong encoding", is_garbled),
    "replacement_characters": Fault(
        "characters lost in decoding (U+FFFD)", _replacement_characters
    ),
}
"""The faults that are looked for, by name."""


def faults_of(conversation: Conversation) -> tuple[str, ...]:
    """The names of the faults in any of a conversation's texts, in the order of FAULTS."""
    texts = [
        text
        for message in conversation.messages
        for text in (message.content, message.input, message.reasoning_content)
        if text
    ]
    return tuple(name for name, fault in FAULTS.items() if any(fault.is_in(text) for text in texts))
