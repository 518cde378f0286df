"""Text repair: pure functions from text to text, each with the name of its switch in the recipe.

Line breaks stay, and so do code, comparisons and generics: what looks like a tag is removed only
if it is a known one.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

from burnish.recipe import CleanSection

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)

_BLOCK_TAGS = (
    "address article aside blockquote br center dd details div dl dt figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hr li main nav ol p section table tbody td tfoot th thead tr ul"
).split()
_INLINE_TAGS = "a abbr b big cite del em font i img ins mark small span strike strong sub sup tt u"
_LONE_TAGS = {"br", "hr", "img"}
_ATTRIBUTES = r"""(?:\s+[a-zA-Z_:@][-\w:.]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=`]+))*"""
_TAG_NAMES = "|".join(sorted([*_BLOCK_TAGS, *_INLINE_TAGS.split()], key=len, reverse=True))
_TAG = re.compile(rf"<(/?)({_TAG_NAMES})({_ATTRIBUTES})\s*/?>", re.IGNORECASE)
_INVISIBLE = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.I | re.DOTALL)
_ABOUT_MARKUP = re.compile(r"html|css|xml|\bweb|code|网页|标签|代码", re.IGNORECASE)


def repair_unicode(text: str) -> str:
    """Mends text that was decoded with the wrong encoding; leaves width and quotes alone."""
    import ftfy

    return str(ftfy.fix_text(text, _ftfy_config()))


@cache
def _ftfy_config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        fix_character_width=False,
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_line_breaks=False,
        unescape_html=False,
        normalization=None,
    )


def strip_html(text: str) -> str:
    """Removes known tags and decodes entities outside code; a block tag becomes a line break.

    A bare inline tag without its partner stays: `a<b and c>d`, `Vec<String>` and `std::map<a,b>`
    are no HTML.
    """
    if "<" not in text and "&" not in text:
        return text
    parts = _CODE.split(text)
    parts[::2] = [_strip_tags(part) for part in parts[::2]]
    return "".join(parts)


def _strip_tags(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    seen = {(found[1], found[2].lower()) for found in _TAG.finditer(text)}

    def replacement(found: re.Match[str]) -> str:
        slash, name = found[1], found[2].lower()
        partner = ("" if slash else "/", name)
        if name not in _LONE_TAGS and not found[3] and partner not in seen:
            return found[0]
        return "\n" if name in _BLOCK_TAGS else ""

    return html.unescape(_TAG.sub(replacement, text))


def strip_control(text: str) -> str:
    """Removes control, zero-width and other invisible characters; emoji joiners stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for i, c in enumerate(text) if not _is_invisible(text, i, c))


def _is_invisible(text: str, index: int, character: str) -> bool:
    if character in "\n\t":
        return False
    if character == "\u200d":  # joins emoji, and letters of Indic and Arabic scripts
        before = text[index - 1] if index else ""
        return not before or before.isascii() or "\u4e00" <= before <= "\u9fff"
    if character in "\u200b\u2060\ufeff\u00ad":
        return True
    return unicodedata.category(character) == "Cc"


def squeeze_spaces(text: str) -> str:
    """Turns blanks within a line into one, keeps indentation and line breaks, trims the ends."""
    parts = _CODE.split(text.replace("\r\n", "\n").replace("\r", "\n"))
    parts[::2] = [_squeeze_lines(part) for part in parts[::2]]
    return re.sub(r"\n[ \t]*\n(?:[ \t]*\n)+", "\n\n", "".join(parts)).strip()


def _squeeze_lines(text: str) -> str:
    text = text.replace("\u3000", " ").replace("\u00a0", " ")
    text = re.sub(r"(?<=\S)[ \t]+(?=\S)", " ", text)
    return re.sub(r"[ \t]+(?=\n)", "", text)


def squeeze_marks(text: str) -> str:
    """Shortens runs of one Chinese mark; an ellipsis stays one (`……`)."""
    text = re.sub(r"…{3,}", "……", text)
    return re.sub(r"([。！？，、；：])\1+", r"\1", text)


def halfwidth_alphanumerics(text: str) -> str:
    """Turns full-width digits and Latin letters into ordinary ones (`１２０` becomes `120`)."""
    return re.sub("[０-９Ａ-Ｚａ-ｚ]", lambda found: chr(ord(found[0]) - 0xFEE0), text)


_FULLWIDTH = str.maketrans(",:;!?()", "，：；！？（）")


def fullwidth_punctuation(text: str) -> str:
    """Turns half-width punctuation between Chinese characters into full-width punctuation."""
    between = re.compile(rf"(?<=[{_HAN}])[,:;!?](?=[{_HAN}]|$)|(?<=[{_HAN}])[()]|[()](?=[{_HAN}])")
    return between.sub(lambda found: found[0].translate(_FULLWIDTH), text)


_SPECIAL = (
    r"</?s>|<\|(?:im_start|im_end|endoftext|eot_id|end|begin_of_text)\|>|<(?:eos|bos|pad)>"
    r"|\[/?INST\]|<(?:start|end)_of_turn>"
)
_SPECIAL_ENDS = re.compile(rf"\A(?:\s*(?:{_SPECIAL}))+\s*|\s*(?:(?:{_SPECIAL})\s*)+\Z")


def strip_special_tokens(text: str) -> str:
    """Removes control tokens of chat templates at both ends of a text."""
    return _SPECIAL_ENDS.sub("", text)


REPAIRS: dict[str, Callable[[str], str]] = {
    "repair_unicode": repair_unicode,
    "strip_special_tokens": strip_special_tokens,
    "strip_html": strip_html,
    "strip_control": strip_control,
    "halfwidth_alphanumerics": halfwidth_alphanumerics,
    "fullwidth_punctuation": fullwidth_punctuation,
    "squeeze_marks": squeeze_marks,
    "squeeze_spaces": squeeze_spaces,
}
"""The repairs in the order in which they are applied, by the name of their switch."""


def is_about_markup(text: str) -> bool:
    """Whether a question is about code or markup, whose answer must keep its tags."""
    return bool(_ABOUT_MARKUP.search(text))


def repair(text: str, section: CleanSection, *, about_markup: bool) -> tuple[str, list[str]]:
    """The text after every repair that is switched on, and the names of those that changed it."""
    changed = []
    for name, function in REPAIRS.items():
        if not getattr(section, name) or (about_markup and name == "strip_html"):
            continue
        repaired = function(text)
        if repaired != text:
            changed.append(name)
            text = repaired
    return text, changed
