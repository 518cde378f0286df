"""Personal data in a text: where it stands, and the text with typed marks in its place.

Left alone on purpose: hotlines (400…, 800…, and US toll-free numbers in English text), groups and
official accounts (`QQ群`, `微信公众号`), a surname with only a title (`张先生`, `Dr. Smith`), and
digits inside a longer identifier (`order_13812345678`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from burnish.cleaning.identifiers import CHINESE, EMAILS, LATIN, NUMBERS, WECHATS, Detector
from burnish.cleaning.personal_names import (
    CHINESE_CUE,
    CHINESE_NAMES,
    ENGLISH_CUES,
    ENGLISH_NAMES,
    is_name,
)
from burnish.recipe import PrivacyKind

_MARKS: dict[PrivacyKind, tuple[str, str]] = {
    "mobile": ("[手机号]", "[phone]"),
    "landline": ("[座机号]", "[landline]"),
    "resident_id": ("[身份证号]", "[resident id]"),
    "bank_card": ("[银行卡号]", "[bank card]"),
    "email": ("[邮箱]", "[email]"),
    "ip": ("[IP地址]", "[ip address]"),
    "wechat": ("[微信号]", "[wechat]"),
    "qq": ("[QQ号]", "[qq]"),
    "name": ("[姓名]", "[name]"),
}
_AROUND = 40
"""So many characters on both sides decide the language of a mark."""

_WECHAT_CUES = (
    *("微信", "薇信", "威信", "v信", "V信", "加v", "加V", "我v", "我V", "+v", "+V"),
    *("vx", "VX", "Vx", "wx", "WX", "Wx", "eixin", "eiXin", "echat", "eChat", "ECHAT"),
)


# Five digits, or groups of three (138-1234), or an IP address: years and small numbers have none.
_NUMBER = re.compile(
    "[0-9](?:[0-9]{4}|[0-9]{2}[)） -]{1,3}[0-9]{3}|[0-9]{0,2}[.][0-9]{1,4}[.][0-9]|[0-9A-Fa-f]{3}:)"
)


def _has_any(cues: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda text: any(map(text.__contains__, cues))


_GATED: tuple[tuple[Callable[[str], object], tuple[Detector, ...]], ...] = (
    (_has_any(("@",)), EMAILS),
    (_NUMBER.search, NUMBERS),
    (_has_any(_WECHAT_CUES), WECHATS),
    (CHINESE_CUE.search, tuple(Detector("name", name, is_name) for name in CHINESE_NAMES)),
    (_has_any(ENGLISH_CUES), tuple(Detector("name", name, is_name) for name in ENGLISH_NAMES)),
)
"""Detectors, the more specific first, behind a quick question that says whether to try them."""

_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF10, 0xFF5B) if chr(wide).isalnum()} | {
    ord(wide): narrow for wide, narrow in zip("＋－．＠＿　\xa0–—−‐", "+-.@_  ----", strict=True)
}
_WIDE = re.compile("[" + "".join(map(chr, _NARROW)) + "]")


@dataclass(frozen=True, slots=True)
class Finding:
    """A personal datum: `text` is what stands from `start` up to `stop`."""

    kind: PrivacyKind
    start: int
    stop: int
    text: str


def find(text: str, kinds: Collection[PrivacyKind], allow: Collection[str] = ()) -> list[Finding]:
    """The personal data in a text, from left to right; none overlaps another.

    A text in `allow` is not reported; blanks and hyphens make no difference there.
    """
    plain = text.translate(_NARROW) if _WIDE.search(text) else text
    detectors = [
        detector
        for gate, gated in _GATED
        if gate(plain)
        for detector in gated
        if detector.kind in kinds
    ]
    if not detectors:
        return []
    allowed = {_key(entry) for entry in allow}
    found = [
        Finding(kind, start, stop, text[start:stop])
        for kind, start, stop in _search(plain, detectors)
        if _key(text[start:stop]) not in allowed
    ]
    return sorted(found, key=lambda f: f.start)


def mask(
    text: str, kinds: Collection[PrivacyKind], allow: Collection[str] = ()
) -> tuple[str, list[Finding]]:
    """The text with a typed mark for each personal datum, and the data found in the given text.

    A mark is Chinese or English, like the text around it. Masking again changes nothing.
    """
    findings = find(text, kinds, allow)
    if not findings:
        return text, findings
    parts, done = [], 0
    for f in findings:
        chinese, english = _MARKS[f.kind]
        parts += [text[done : f.start], chinese if _is_chinese_around(text, f) else english]
        done = f.stop
    return "".join([*parts, text[done:]]), findings


def _search(plain: str, detectors: list[Detector]) -> list[tuple[PrivacyKind, int, int]]:
    # What is found is blanked out and no neighbour any more of what is left, as in a masked text.
    # The search goes on until nothing is new; so in a masked text nothing is left to find.
    found: list[tuple[PrivacyKind, int, int]] = []

    def blank(detector: Detector, match: re.Match[str]) -> str:
        if not detector.holds(match):
            return match[0]
        start, stop = match.span(1)
        found.append((detector.kind, start, stop))
        cue = match[0][: start - match.start()]
        return f"{cue}[{' ' * (stop - start - 2)}]{match[0][stop - match.start() :]}"

    searched = ""
    while plain != searched:
        searched = plain
        for detector in detectors:
            plain = detector.pattern.sub(partial(blank, detector), plain)
    return found


def _key(entry: str) -> str:
    return re.sub(r"[\s-]", "", entry.translate(_NARROW))


def _is_chinese_around(text: str, finding: Finding) -> bool:
    before = text[max(0, finding.start - _AROUND) : finding.start]
    around = f"{before} {text[finding.stop : finding.stop + _AROUND]}"
    han, latin = len(CHINESE.findall(around)), len(LATIN.findall(around))
    if han == latin == 0:
        return bool(CHINESE.search(text)) or not LATIN.search(text)
    return 4 * han >= latin  # a Han character says about as much as four letters
