"""One text that holds a conversation -> its turns, told apart by markers such as `User:`.

Add a kind of transcript: add a line to MARKERS.
"""

from __future__ import annotations

import re
from functools import cache

from burnish.conversation import Message

MARKERS: tuple[tuple[str, str], ...] = (
    ("<user>:", "<bot>:"),
    ("<user>:", "<assistant>:"),
    ("<human>:", "<bot>:"),
    ("[|Human|]", "[|AI|]"),
    ("### Human:", "### Assistant:"),
    ("### User:", "### Assistant:"),
    ("Human:", "Assistant:"),
    ("Human:", "AI:"),
    ("User:", "Assistant:"),
    ("User:", "Bot:"),
    ("USER:", "ASSISTANT:"),
    ("用户:", "助手:"),
    ("患者:", "医生:"),
    ("病人:", "医生:"),
    ("问:", "答:"),
    ("Question:", "Answer:"),
    ("Q:", "A:"),
)
"""What stands before the turns of the user and of the assistant; the first that fits is taken.

A colon may be full-width in the text. A marker that begins with a letter counts only at the start
of a line; others (`<user>:`) anywhere. A `<s>` before a marker belongs to it.
"""


def parse_transcript(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript, or None where no pair of markers stands in the text.

    What stands before the first marker becomes a system prompt; a marker of the user with nothing
    behind it at the end is left out.
    """
    fitting = [found for pair in MARKERS if (found := _find(text, pair))]
    if not fitting:
        return None
    found = min(fitting, key=lambda markers: markers[0].start())
    before = text[: found[0].start()].strip()
    turns = [Message("system", before)] if before else []
    ends = [*(marker.start() for marker in found[1:]), len(text)]
    for marker, end in zip(found, ends, strict=True):
        said = text[marker.end() : end].strip()
        turns.append(Message("user" if marker.lastgroup == "user" else "assistant", said))
    if turns[-1] == Message("user", ""):
        turns.pop()
    return tuple(turns)


def is_transcript(text: str) -> bool:
    """Whether a text begins as a transcript does, with a marker of the user."""
    turns = parse_transcript(text)
    return turns is not None and turns[0].role == "user"


def _find(text: str, pair: tuple[str, str]) -> list[re.Match[str]]:
    """All markers of a pair in the text; none where a side is missing."""
    if not all(marker.split()[-1].rstrip(":") in text for marker in pair):
        return []  # much faster than the pattern
    found = list(_pattern(pair).finditer(text))
    return found if len({marker.lastgroup for marker in found}) == 2 else []


@cache
def _pattern(pair: tuple[str, str]) -> re.Pattern[str]:
    user, assistant = map(_marker_pattern, pair)
    return re.compile(f"(?P<user>{user})|(?P<assistant>{assistant})")


def _marker_pattern(marker: str) -> str:
    name = re.escape(marker.rstrip(":")).replace(r"\ ", r"[ \t]*")
    body = name + (r"[ \t]*[:：]" if marker.endswith(":") else "")
    if not marker[0].isalpha():
        return rf"(?:<s>\s*)?{body}"
    # A line starts where nothing, or a line break, stands before it.
    return rf"(?:(?<![^\n\r])[ \t\u3000]*(?:<s>\s*)?|<s>\s*){body}"
