"""Text repair: pure functions from text to text, each with the name of its switch in the recipe.

Line breaks stay, and so do comparisons and generics: what looks like a tag is removed only if it is
a known one. Code between backticks is left alone.
"""

from __future__ import annotations

import html
import re
import textwrap
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
_SUPERSCRIPT = re.compile(r"(?<=[\w)])<sup>\s*([-+−]?\d+)\s*</sup>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]\w*);")
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
        remove_control_chars=False,
        unescape_html=False,
        normalization=None,
    )


def _outside_code(edit: Callable[[str], str], text: str) -> str:
    if "`" not in text:
        return edit(text)
    parts = _CODE.split(text)
    parts[::2] = [edit(part) for part in parts[::2]]
    return "".join(parts)


def strip_html(text: str) -> str:
    """Removes known tags and decodes entities outside code; a block tag becomes a line break.

    A bare inline tag without its partner stays: `a<b and c>d`, `Vec<String>` and `std::map<a,b>`
    are no HTML. A raised number keeps its meaning: `10<sup>9</sup>` becomes `10^9`.
    """
    if "<" not in text and "&" not in text:
        return text
    return _outside_code(_strip_tags, text)


def _strip_tags(text: str) -> str:
    text = _SUPERSCRIPT.sub(r"^\1", _INVISIBLE.sub("", text))
    seen = {(found[1], found[2].lower()) for found in _TAG.finditer(text)}

    def replacement(found: re.Match[str]) -> str:
        slash, name = found[1], found[2].lower()
        partner = ("" if slash else "/", name)
        if name not in _LONE_TAGS and not found[3] and partner not in seen:
            return found[0]
        return "\n" if name in _BLOCK_TAGS else ""

    # Only whole entities: html.unescape alone would turn `?a=1&copy=2` into `?a=1©=2`.
    return _ENTITY.sub(lambda found: html.unescape(found[0]), _TAG.sub(replacement, text))


def strip_control(text: str) -> str:
    """Removes control and zero-width characters; a break of any kind becomes a line break."""
    if text.isprintable():  # neither category Cc nor Cf is printable
        return text
    return _HIDDEN.sub("", _BREAK.sub("\n", text))


_BREAK = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\u00ad]"
    # The joiner of emoji, and of letters in Indic and Arabic scripts, stays.
    f"|(?:(?<=[\x00-\x7f{_HAN}])|\\A)\u200d"
)


def squeeze_spaces(text: str) -> str:
    """Turns blanks within a line into one, keeps line breaks, trims the ends.

    Lines keep their indentation to each other; the indentation that all share, and the
    ideographic blanks at the start of a Chinese paragraph, go.
    """
    text = _outside_code(_squeeze_lines, text.replace("\r\n", "\n").replace("\r", "\n"))
    return textwrap.dedent(text).strip() if text[:1].isspace() else text.rstrip()


def _squeeze_lines(text: str) -> str:
    text = re.sub(r"(\A|\n)\u3000+", r"\1", text.replace("\u00a0", " "))
    text = re.sub(r"(?<=\S)[ \t\u3000]+(?=\S)", " ", text)
    text = re.sub(r"[ \t\u3000]+(?=\n)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def squeeze_marks(text: str) -> str:
    """Shortens runs of one Chinese mark; an ellipsis stays one (`……`)."""
    return _outside_code(_squeeze_runs, text)


def _squeeze_runs(text: str) -> str:
    text = re.sub(r"…{3,}", "……", text)
    return re.sub(r"([。！？，、；：])\1+", r"\1", text)


def halfwidth_alphanumerics(text: str) -> str:
    """Turns full-width digits and Latin letters into ordinary ones (`１２０` becomes `120`)."""
    return _outside_code(lambda part: part.translate(_HALFWIDTH), text)


_HALFWIDTH = {
    wide: wide - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ")
    for wide in range(ord(first), ord(last) + 1)
}


_FULLWIDTH = str.maketrans(",:;!?()", "，：；！？（）")
_HALFWIDTH_MARK = re.compile(
    rf"(?<=[{_HAN}])[,:;!?](?=[{_HAN}]|$)|(?<=[{_HAN}])[()]|[()](?=[{_HAN}])", re.MULTILINE
)


def fullwidth_punctuation(text: str) -> str:
    """Turns half-width punctuation between Chinese characters into full-width punctuation."""
    return _outside_code(
        lambda part: _HALFWIDTH_MARK.sub(lambda found: found[0].translate(_FULLWIDTH), part), text
    )


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
    "strip_html": strip_html,
    "strip_control": strip_control,
    "strip_special_tokens": strip_special_tokens,
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
