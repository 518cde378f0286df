"""What a chat template's source says about its boundaries, without rendering it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jinja2 import Environment, TemplateSyntaxError

_MARKERS = re.compile(
    r"<[^<>\s]{1,40}>"  # <start_of_turn>, <|user|>, <｜User｜>
    r"|<</?SYS>>"
    r"|\[/?[A-Z_]{2,30}\]"  # [INST]
    r"|#{2,6} ?[^\n#:：]{1,30}[:：]"  # ### 响应:
)
_SPEAKER = re.compile(r"([^\W\d_]{2,20}[:：])\s*\Z")
_LOOKED_FOR = re.compile(
    r"(?:split|partition|startswith|endswith|find|replace)\(\s*(['\"])(?P<called>.+?)\1"
    r"|(['\"])(?P<within>.+?)\3\s+(?:not\s+)?in\s"
)


def literals(template: str) -> list[str]:
    """The texts that a template writes as they stand: outside its tags and in its strings."""
    try:
        stream = Environment().lexer.tokenize(template)
        return [token.value for token in stream if token.type in ("data", "string")]
    except TemplateSyntaxError:
        return []  # whoever renders it meets the error with its line


def markers(texts: Iterable[str]) -> set[str]:
    """What looks like a boundary in these texts: `<|user|>`, `[INST]`, `### 响应:`."""
    return {found for text in texts for found in _MARKERS.findall(text)}


def speakers(text: str) -> set[str]:
    """The word with a colon, such as `USER:`, that the text before a message ends with."""
    return set(_SPEAKER.findall(text))


def looked_for(template: str) -> set[str]:
    """What a template searches for in texts, as in `content.split('</think>')`."""
    found = _LOOKED_FOR.finditer(template)
    return {match["called"] or match["within"] for match in found}


def open_edges(names: Iterable[str], texts: Iterable[str]) -> tuple[set[str], set[str]]:
    """Parts of control tokens that a template's own text would complete.

    Returns:
        What a message may not end with, and what it may not begin with: where a template writes
        `|>`, a message that ends with `<|im_end` would become `<|im_end|>`.
    """
    names = list(names)
    prefixes, suffixes = _edges(texts, max(map(len, names), default=0))
    cuts = [(name[:cut], name[cut:]) for name in names for cut in range(1, len(name))]
    ends = {before for before, behind in cuts if behind in prefixes}
    return ends, {behind for before, behind in cuts if before in suffixes}


def open_middles(names: Iterable[str], around: Iterable[str]) -> set[str]:
    """Parts of control tokens that the text around a message would complete on both sides."""
    names = list(names)
    prefixes, suffixes = _edges(around, max(map(len, names), default=0))
    return {
        name[start:stop]
        for name in names
        for start in range(1, len(name))
        if name[:start] in suffixes
        for stop in range(start + 1, len(name))
        if name[stop:] in prefixes
    }


def _edges(texts: Iterable[str], longest: int) -> tuple[set[str], set[str]]:
    """All beginnings and all ends of some texts, up to a length."""
    written = [text for text in texts if text]
    lengths = range(1, longest + 1)
    prefixes = {text[:length] for text in written for length in lengths}
    return prefixes, {text[-length:] for text in written for length in lengths}
