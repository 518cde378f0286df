"""Where a text holds code: between backticks, in fences, in `<pre>` and `<code>`, in strings.

A string is code where it begins and ends with a tag: `print("<b>x</b>")`.

Repairs leave code alone. All work here takes time in proportion to the length of the text, however
many openings have no end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_OPENING = re.compile(
    r"(?P<ticks>`+)|(?:\A|(?<=\n))[ \t]*(?P<tildes>~{3,})|<(?P<tag>pre|code)\b[^<>]*>"
    r"|(?P<quote>[\"'])(?=<)",
    re.IGNORECASE,
)
_CLOSING_TAG = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("pre", "code")}

_ON_ONE_LINE = ("ticks", "quote")

_FIRST_MARK = 0xF0000
_MOST_SPANS = 0xFFFD
_MARK = re.compile("[\U000f0000-\U000ffffd]")

Ending = Callable[["re.Match[str]", str], "int | None"]


def outside_code(edit: Callable[[str], str], text: str) -> str:
    """The text edited everywhere but in code, which the edit may move or drop but can't look into.

    Each stretch of code stands as one private-use character while the rest is edited, so that an
    edit sees the text before and behind it as one.
    """
    if not may_hold_code(text):
        return edit(text)
    found = list(spans(text, _OPENING, _end_of_code))
    if not found or len(found) > _MOST_SPANS or _MARK.search(text):
        return text if found else edit(text)
    parts = []
    position = 0
    for number, (start, end) in enumerate(found):
        parts += [text[position:start], chr(_FIRST_MARK + number)]
        position = end
    edited = edit("".join([*parts, text[position:]]))

    def code(mark: re.Match[str]) -> str:
        start, end = found[ord(mark[0]) - _FIRST_MARK]
        return text[start:end]

    return _MARK.sub(code, edited)


def without_code(text: str) -> str:
    """The text without its code."""
    if not may_hold_code(text):
        return text
    return without(text, _OPENING, _end_of_code)


def may_hold_code(text: str) -> bool:
    """Whether to look for code at all; quick."""
    if "`" in text or "~~~" in text:
        return True
    return "<" in text and _MAY_BE_CODE.search(text) is not None


_MAY_BE_CODE = re.compile(r"[\"']<|</(?:pre|code)\s*>", re.IGNORECASE)


def without(text: str, opening: re.Pattern[str], end_of: Ending) -> str:
    """The text without the stretches that `spans` finds."""
    parts = []
    position = 0
    for start, end in spans(text, opening, end_of):
        parts.append(text[position:start])
        position = end
    return "".join([*parts, text[position:]])


def spans(text: str, opening: re.Pattern[str], end_of: Ending) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch that begins with an opening and has an end.

    Args:
        text: where to look.
        opening: what begins a stretch.
        end_of: takes the match and the text; says where the stretch ends, or None.
    """
    position = 0
    endless: set[str] = set()
    while found := opening.search(text, position):
        position = found.end()
        kind = found.lastgroup or ""
        key = f"{kind} {found[kind].lower()}" if kind else found[0]
        # An opening without an end has none further on either, except on another line.
        end = None if key in endless else end_of(found, text)
        if end is not None:
            yield found.start(), end
            position = end
        elif kind not in _ON_ONE_LINE:
            endless.add(key)


def _end_of_code(found: re.Match[str], text: str) -> int | None:
    if found["tag"]:
        closing = _CLOSING_TAG[found["tag"].lower()].search(text, found.end())
        return closing.end() if closing else None
    fence = found["tildes"] or found["ticks"] or ""
    if len(fence) >= 3:
        end = text.find(fence, found.end())
        return len(text) if end < 0 else end + len(fence)
    line_end = text.find("\n", found.end())
    stop = len(text) if line_end < 0 else line_end
    if found["quote"]:
        end = text.find(found["quote"], found.end(), stop)
        return end + 1 if end > 0 and text[end - 1] == ">" else None
    closing = re.compile(rf"(?<!`){fence}(?!`)").search(text, found.end() + 1, stop)
    return closing.end() if closing else None
