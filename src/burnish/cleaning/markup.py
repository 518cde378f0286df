"""HTML in texts: known tags and entities go; everything else that has angle brackets stays.

Comparisons, generics, placeholders (`<user>`), code, XML and whole HTML documents stay as they are.
"""

from __future__ import annotations

import html
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from html.entities import html5

from burnish.cleaning.code_spans import outside_code, without
from burnish.conversation import Conversation

_CELLS = frozenset(["li", "td", "th", "tr", "dt", "dd"])
_BLOCK_TAGS = _CELLS | frozenset(
    "address article aside blockquote br center details div dl figcaption figure footer form h1 h2"
    " h3 h4 h5 h6 header hr main nav ol p section table tbody tfoot thead ul".split()
)
_INLINE_TAGS = frozenset(
    "a abbr b big cite del em font i iframe img ins mark o:p small span strike strong sub sup tt"
    " u video".split()
)
_LONE_TAGS = frozenset(["br", "hr"])
_UNCLOSED_TAGS = _CELLS | {"p"}
"""HTML allows these without an end."""
_WITH_ATTRIBUTES = frozenset(["iframe", "img", "video"])
"""Without an attribute these are no HTML but marks of multimodal data."""
_NO_XML = frozenset(
    "answer assistant bot code function_call human pre reasoning s script style system think"
    " thinking thought tool_call tool_calls tool_response tools unk user".split()
)
"""Pairs of these are HTML, or marks of a chat format, and say nothing about the rest."""

_ATTRIBUTES = r"""(?:\s+[a-zA-Z_:@][-\w:.]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=`]+))*"""
_NAMES = "|".join(sorted(_BLOCK_TAGS | _INLINE_TAGS, key=lambda name: (-len(name), name)))
_TAG = re.compile(rf"<(/?)({_NAMES})({_ATTRIBUTES})\s*/?>", re.IGNORECASE)
_INVISIBLE = re.compile(r"<(?P<tag>script|style)\b[^<>]*>|<!--", re.IGNORECASE)
_INVISIBLE_END = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")}
_SUPERSCRIPT = re.compile(r"(?<=[\w)])<sup>\s*([-+−]?\d+)\s*</sup>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<(/?)([^\W\d][\w:.-]*)(?=[\s/>])")
_LINE_START = re.compile(r"\n[ \t]*\Z")
_TABLE_ROW = re.compile(r"(?:^[^\S\n]*\||(?<= \| )).*", re.MULTILINE)
"""A row of a Markdown table, from where it can be told: its start, or behind the first bar."""
_NAME = re.compile(r"[A-Za-z0-9_)]")
_DOCUMENT = re.compile(r"<!doctype\b|<\?xml\b|<html\b|<body\b", re.IGNORECASE)
_JSON = re.compile(r"\s*(?:\{\s*\"|\[\s*[{\[\"])(?s:.*)[\]}]\s*\Z")
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z][a-zA-Z0-9]*));")
_PLAIN_ENTITIES = frozenset(["lt", "gt", "amp", "quot", "apos", "nbsp"])
_ADDRESS_OF = re.compile(r"(?:=|\breturn)[ \t]*\Z")


def strip_html(text: str) -> str:
    """The text without known tags and with entities decoded, outside code.

    - A block tag becomes a line break, in a row of a Markdown table a blank.
    - A bare tag without its partner stays: `a<b and c>d`, `Vec<String>`, `SELECT * FROM <table>`.
      `<br>` goes; of the tags that HTML lets stand alone (`<p>`, `<li>`) those at the start of a
      line or behind a full stop, and where there are several, unless they follow a Latin letter
      as generics do (`List<p>`).
    - Script, style and comments go with their content.
    - A text with pairs of unknown tags is XML, one with `<html` or `<?xml` a document; these and
      JSON stay.
    - A raised number keeps its meaning: `10<sup>9</sup>` becomes `10^9`.
    - What entities spell out is text: `&lt;br&gt;` stays, so that a second run does not take it
      for a tag; unless the whole text is escaped HTML (`&lt;p&gt;…&lt;/p&gt;`).
    """
    if "<" not in text and ("&" not in text or ";" not in text):
        return text
    return outside_code(_strip_markup, text)


def has_tags(text: str) -> bool:
    """Whether `strip_html` would remove a tag."""
    if (
        "<" not in text
        or ">" not in text
        or (not _TAG.search(text) and not _INVISIBLE.search(text))
    ):
        return False
    return outside_code(lambda part: part if _is_data(part) else _strip_tags(part), text) != text


def has_entities(text: str) -> bool:
    """Whether an entity stands outside code."""
    if "&" not in text or ";" not in text:
        return False
    return outside_code(lambda part: part if _is_data(part) else _decode(part), text) != text


def _is_data(text: str) -> bool:
    """Whether a text is XML, an HTML document or JSON."""
    if _DOCUMENT.search(text) or _JSON.match(text):
        return True
    if "</" not in text:
        return False
    names: dict[str, set[str]] = {"": set(), "/": set()}
    for slash, name in _ANY_TAG.findall(text):
        names[slash].add(name.lower())
    return bool((names[""] & names["/"]) - _BLOCK_TAGS - _INLINE_TAGS - _NO_XML)


def _strip_markup(text: str) -> str:
    if _is_data(text):
        return text
    text = _strip_tags(text)
    if "&" not in text:
        return text
    decoded = _decode(text)
    if "<" not in decoded or decoded == text or _is_data(decoded):
        return decoded
    stripped = _strip_tags(decoded)
    if stripped == decoded or _is_wrapped(decoded):
        return stripped
    return _decode(text, keep_brackets=True)


def _is_wrapped(text: str) -> bool:
    """Whether a text begins and ends with a tag."""
    text = text.strip()
    last = text.rfind("<")
    return _TAG.match(text) is not None and _TAG.fullmatch(text, last) is not None


def _strip_tags(text: str) -> str:
    if "<" not in text or ">" not in text:
        return text
    text = _SUPERSCRIPT.sub(r"^\1", without(text, _INVISIBLE, _end_of_invisible))
    openings: dict[str, list[int]] = {}
    closings: dict[str, list[int]] = {}
    for slash, name, attributes, place in _tags(text):
        if slash or attributes or name not in _WITH_ATTRIBUTES:
            (closings if slash else openings).setdefault(name, []).append(place)

    rows = [row.span() for row in _TABLE_ROW.finditer(text)] if "|" in text else []

    def replacement(found: re.Match[str]) -> str:
        name = found[2].lower()
        if found[1]:
            goes = name in _BLOCK_TAGS or openings.get(name, [len(text)])[0] < found.start()
        else:
            has_partner = closings.get(name, [-1])[-1] > found.start()
            goes = _opens(found, name, has_partner, is_only=len(openings.get(name, ())) == 1)
        return _instead(found, name, rows) if goes else found[0]

    return _TAG.sub(replacement, text)


def _tags(text: str) -> Iterator[tuple[str, str, str, int]]:
    """Slash, name, attributes and place of each known tag."""
    for found in _TAG.finditer(text):
        yield found[1], found[2].lower(), found[3], found.start()


def _opens(found: re.Match[str], name: str, has_partner: bool, *, is_only: bool) -> bool:
    """Whether an opening tag is HTML."""
    if name in _LONE_TAGS or found[3]:
        return True
    if has_partner or name not in _UNCLOSED_TAGS:
        return has_partner and name not in _WITH_ATTRIBUTES
    before = found.string[max(0, found.start() - 1) : found.start()]
    return not before or before in "\n。！？；.!?;>" or not (is_only or _NAME.match(before))


def _instead(found: re.Match[str], name: str, rows: list[tuple[int, int]]) -> str:
    """What stands for a tag: nothing, a line break, or a blank in a row of a table."""
    text, place = found.string, found.start()
    if name not in _BLOCK_TAGS:
        return ""
    if name in _CELLS and found[1] and _TAG.match(text, _skip_blanks(text, found.end())):
        return ""  # the next tag breaks the line
    if name in _CELLS and not found[1] and _LINE_START.search(text, max(0, place - 40), place):
        return ""
    return " " if _lies_in(rows, place) else "\n"


def _lies_in(stretches: list[tuple[int, int]], place: int) -> bool:
    """Whether a place lies in one of the stretches, which are sorted."""
    index = bisect_right(stretches, (place, sys.maxsize)) - 1
    return index >= 0 and place <= stretches[index][1]


def _skip_blanks(text: str, position: int) -> int:
    while text[position : position + 1].isspace():
        position += 1
    return position


def _end_of_invisible(found: re.Match[str], text: str) -> int | None:
    if not found["tag"]:
        end = text.find("-->", found.end())
        return None if end < 0 else end + 3
    closing = _INVISIBLE_END[found["tag"].lower()].search(text, found.end())
    return closing.end() if closing else None


def _decode(text: str, *, keep_brackets: bool = False) -> str:
    """Decodes whole entities, also twice escaped ones (`&amp;nbsp;`)."""

    def character(found: re.Match[str]) -> str:
        decoded = _character(found)
        return found[0] if keep_brackets and decoded in "<>" else decoded

    for _ in range(4):
        decoded = _ENTITY.sub(character, text)
        if decoded == text:
            break
        text = decoded
    return text


def _character(found: re.Match[str]) -> str:
    """The character of an entity; the entity itself where it is none, or code (`p = &sum;`)."""
    name = found[3]
    if name is None:
        code = int(found[1]) if found[1] else int(found[2], 16)
        decoded = html.unescape(f"&#{code};")
        return found[0] if decoded in ("", "\ufffd") else decoded
    # html.unescape would turn the unknown `&copyright;` into `©right;`.
    decoded = html5.get(f"{name};", found[0])
    before = found.string[max(0, found.start() - 12) : found.start()]
    return found[0] if name not in _PLAIN_ENTITIES and _ADDRESS_OF.search(before) else decoded


_CODE_WORDS = frozenset(
    "html xhtml html5 css css3 xml svg jsx javascript js typescript java python php sql c++ c# vue"
    " code codes coding script scripts programming regex markdown latex json yaml web webpage"
    " webpages website websites tag tags".split()
)
_HAN_CODE_WORDS = "网页 标签 代码 编程 脚本 函数 程序 正则 网站".split()
_LATIN_WORD = re.compile(r"[a-z]+(?:\d|\+\+|#)?")


def is_about_markup(text: str) -> bool:
    """Whether a question is about code or markup, whose answer must keep its tags."""
    if not _CODE_WORDS.isdisjoint(_LATIN_WORD.findall(text.lower())):
        return True
    return not text.isascii() and any(word in text for word in _HAN_CODE_WORDS)


def asks_about_markup(conversation: Conversation) -> bool:
    """Whether somebody asks about code or markup, so that the whole conversation keeps its tags."""
    return any(is_about_markup(m.content) for m in conversation.messages if m.role == "user")
