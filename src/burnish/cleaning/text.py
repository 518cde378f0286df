"""Text repair: pure functions from text to text, each with the name of its switch in the recipe.

Line breaks and indentation stay, and so does code between backticks. Every function returns clean
text as it is after a look that takes a microsecond or two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from burnish.cleaning.blanks import squeeze_spaces
from burnish.cleaning.code_spans import outside_code
from burnish.cleaning.markup import strip_html
from burnish.cleaning.special_tokens import strip_special_tokens
from burnish.errors import MissingExtraError
from burnish.recipe import CleanSection

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
MOST_PASSES = 8
"""A repair may bring to light what another one mends; nothing real needs more than three passes."""


# What ftfy takes for garbled always holds a character of _GARBLED or two of _GARBLED_PAIR: letters,
# box lines and signs that Windows code pages have in the place of bytes from 0x80 on. Marks that
# are common in clean texts (“ ” … — · ° × ± ≥ α я) are not among the former.
_GARBLED = re.compile(
    "[\x1b\x80-\x9f\xa1-\xa8\xaa\xac\xaf\xb6\xb8\xba\xbf\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0384\u0385"
    "\u0392\u0393\u039e\u039f\u0402\u0412\u0413\u0420\u0421\u0490\u0491\u201a\u201e\u2020\u2021"
    "\u2030\u2039\u203a\u20a7\u20ac\u2310\u2500-\u25ff\ud800-\udfff\uf8ff\ufb01\ufb02\ufffd]"
)
_NUMERIC = "\xb1-\xb3\xb5\xb9\xbc-\xbe\xd7\xf7\u2044\u2116\u2202-\u22ff"
_NUMERIC_SIGN = re.compile(f"[{_NUMERIC}]")
_GARBLED_PAIR = re.compile(f"[{_NUMERIC}][^\x00-\x7f]|[\xa9\xab\u2018\u201c\u2022][{_NUMERIC}]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


_LONE = re.compile(
    r"(?<![a-z\xdf-\xff])[\xc0-\xdf](?: |(?:[”»’™®“]|(?<=[A-Z\xc0-\xdf].)[–—])(?![^\W\d_]))"
)
"""Looks like two garbled bytes, but may be a letter as well: `Ã is a letter`, `“IRMÔ`, `CAFÉ®`."""


def repair_unicode(text: str) -> str:
    """Mends text that was decoded with the wrong encoding; leaves width and quotes alone.

    Equal to ftfy.fix_text with our settings, but asks it only about lines that may be garbled. A
    capital letter with a blank or a mark behind it is no evidence: where a text has no other, its
    encoding was right.
    """
    if not _may_be_garbled(text):
        return text
    import ftfy

    is_evident = not _LONE.search(text) or _is_decoded_wrongly(_LONE.sub(" ", text))
    config = _ftfy_config(fix_encoding=is_evident)
    return "".join(
        ftfy.fix_text(line, config) if _may_be_garbled(line) else line
        for line in _LINE.findall(text)
    )


def _is_decoded_wrongly(text: str) -> bool:
    import ftfy

    config = _ftfy_config(fix_encoding=True)
    return any(
        ftfy.fix_encoding(line, config) != line
        for line in _LINE.findall(text)
        if _may_be_garbled(line)
    )


def is_garbled(text: str) -> bool:
    """Whether a text was decoded with the wrong encoding, as far as that can be told."""
    if "\x1b" in text:
        text = text.replace("\x1b", "")
    return _may_be_garbled(text) and repair_unicode(text) != text


def _may_be_garbled(text: str) -> bool:
    if text.isascii():
        return "\x1b" in text
    if _GARBLED.search(text):
        return True
    return _NUMERIC_SIGN.search(text) is not None and _GARBLED_PAIR.search(text) is not None


@cache
def _ftfy_config(*, fix_encoding: bool) -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        fix_encoding=fix_encoding,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        unescape_html=False,
        normalization=None,
        explain=False,
    )


_BREAK = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_TAGS = "\U000e0001-\U000e007f"
HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u2060-\u2064\ufeff\ufff9-\ufffc\ufffe\uffff]"
    f"|(?<![\U0001f3f4{_TAGS}])[{_TAGS}]+"
)
"""Never seen and never meant: controls, zero-width characters, tags that spell no flag."""
_JOINERS = re.compile(f"(?:\\A|(?<=[\x00-\x7f{_HAN}\u3000-\u303f\uff00-\uffef]))[\u200c\u200d]+")
_DIRECTIONS = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u05ff\u0600-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


def strip_control(text: str) -> str:
    """Removes control and zero-width characters; a break of any kind becomes a line break.

    Joiners stay where scripts and emoji need them, marks of direction in texts with Hebrew or
    Arabic letters, variation selectors everywhere, and tag characters in flags.
    """
    if text.isprintable() or text.replace("\n", "").isprintable():
        return text
    text = HIDDEN.sub("", _BREAK.sub("\n", text))
    if _DIRECTIONS.search(text) and not _RIGHT_TO_LEFT.search(text):
        text = _DIRECTIONS.sub("", text)
    return _JOINERS.sub("", text)


_SAME_TWICE = re.compile(r"([。，、；：！？…!?~～.])\1")


def squeeze_marks(text: str) -> str:
    """Shortens runs of one mark, outside code.

    - Two or more of `。，、；：` become one: nobody doubles them on purpose.
    - Three or more of `！？` become one; two stay, as emphasis.
    - Three or more `…` become `……`.
    - Half-width marks only behind a Chinese character or mark: three or more of `!?~` become one,
      four or more dots `……` (`...` stays, and so do the dots before a page number). Elsewhere
      they may be code or Markdown.
    """
    return outside_code(_squeeze_runs, text) if _SAME_TWICE.search(text) else text


_CHINESE = f"{_HAN}。，、；：！？…～）」』”》】"
_RUNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"([。，、；：])\1+"), r"\1"),
    (re.compile(r"([！？])\1{2,}"), r"\1"),
    (re.compile(rf"(?<=[{_CHINESE}])([!?~～])\1{{2,}}"), r"\1"),
    (re.compile(rf"(?<=[{_CHINESE}])\.{{4,}}+(?![ \t]*\d+[ \t]*(?:\n|\Z))"), "……"),
    (re.compile(r"…{3,}"), "……"),
)


def _squeeze_runs(text: str) -> str:
    for run, instead in _RUNS:
        text = run.sub(instead, text)
    return text


_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ]")
_WIDE_POINT = re.compile(r"(?<=[0-9])．(?=[0-9])")
_NARROW = {
    wide: wide - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ")
    for wide in range(ord(first), ord(last) + 1)
}


def halfwidth_alphanumerics(text: str) -> str:
    """Turns full-width digits and Latin letters into ordinary ones (`１２．５` becomes `12.5`)."""
    if text.isascii() or not _WIDE.search(text):
        return text
    return outside_code(lambda part: _WIDE_POINT.sub(".", part.translate(_NARROW)), text)


_WIDE_MARKS = str.maketrans(",:;!?", "，：；！？")
_NARROW_MARKS = re.compile(rf"([,:;!?])(?<=[{_HAN}].)\1*(?=[{_HAN}]|$)", re.MULTILINE)
_NARROW_BRACKETS = re.compile(
    rf"\((?:(?<=[{_HAN}].)|(?<![\x21-\x7e].)(?=[^()（）\n]*[{_HAN}]))([^()（）\n]*)\)"
)


def fullwidth_punctuation(text: str) -> str:
    """Turns half-width punctuation between Chinese characters into full-width punctuation.

    Brackets turn in pairs: behind a Chinese character, or around one where no code precedes.
    """
    return text if text.isascii() else outside_code(_widen, text)


def _widen(text: str) -> str:
    if "(" in text:
        text = _NARROW_BRACKETS.sub(r"（\1）", text)
    return _NARROW_MARKS.sub(lambda found: found[0].translate(_WIDE_MARKS), text)


REPAIRS: dict[str, Callable[[str], str]] = {
    "repair_unicode": repair_unicode,
    "strip_control": strip_control,
    "strip_html": strip_html,
    "strip_special_tokens": strip_special_tokens,
    "halfwidth_alphanumerics": halfwidth_alphanumerics,
    "squeeze_spaces": squeeze_spaces,
    "fullwidth_punctuation": fullwidth_punctuation,
    "squeeze_marks": squeeze_marks,
}
"""The repairs in the order in which they are applied, by the name of their switch."""


def convert_chinese(text: str, mode: str) -> str:
    """The text with traditional and simplified characters converted, by OpenCC's name of the way.

    Raises:
        MissingExtraError: OpenCC is not installed.

    Source: https://github.com/BYVoid/OpenCC
    """
    return text if text.isascii() else str(_converter(mode).convert(text))


@cache
def _converter(mode: str) -> Any:
    try:
        import opencc
    except ImportError:
        raise MissingExtraError("opencc", "opencc") from None
    return opencc.OpenCC(mode)


def repair(text: str, section: CleanSection, *, about_markup: bool) -> tuple[str, list[str]]:
    """The text after every repair that is switched on, and the names of those that changed it.

    The repairs are applied until none changes anything, so that repairing twice is repairing once.

    Raises:
        MissingExtraError: characters are to be converted and OpenCC is not installed.
    """
    if not text:
        return text, []
    repairs = [
        (name, function)
        for name, function in REPAIRS.items()
        if getattr(section, name) and not (about_markup and name == "strip_html")
    ]
    changed: dict[str, None] = {}
    for _ in range(MOST_PASSES):
        before = text
        for name, function in repairs:
            repaired = function(text)
            if repaired != text:
                changed[name] = None
                text = repaired
        if text == before:
            break
    if section.convert_chinese != "no":
        converted = convert_chinese(text, section.convert_chinese)
        if converted != text:
            changed["convert_chinese"] = None
            text = converted
    return text, list(changed)
