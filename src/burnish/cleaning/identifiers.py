r"""Numbers and addresses that identify a person: a pattern for each, and what no pattern can say.

The patterns know ASCII only, so that `\w` and `\d` stop at a Han character; the caller turns
full-width digits and letters into ordinary ones before. The datum is the first group.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from burnish.recipe import PrivacyKind


def _always(match: re.Match[str]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Detector:
    """A pattern whose first group is a datum of a kind, where `holds` agrees."""

    kind: PrivacyKind
    pattern: re.Pattern[str]
    holds: Callable[[re.Match[str]], bool] = _always


CHINESE = re.compile("[\u3400-\u9fff，。：；！？（）、]")
LATIN = re.compile("[A-Za-z]")
_BEFORE = r"(?<!\w)(?<!\d[-.])"
_AFTER = r"(?!\w|[-.]\d)"


def _before(match: re.Match[str], length: int) -> str:
    return match.string[max(0, match.start(1) - length) : match.start(1)]


# Mobile and landline

_MOBILE = re.compile(
    rf"((?:[(（]\+?86[)）][- ]?|\+86[- ]?|(?:{_BEFORE}(?<!\s-)|(?<=[Tt]el)|(?<=TEL)|(?<=[Pp]hone)"
    r"|(?<=[Mm]obile)|(?<=[VvWw][Xx]))(?:(?:00)?86[- ]?)?)"
    rf"1[3-9]\d(?:(?:[- ]?\d{{4}}){{2}}|(?:\.\d{{4}}){{2}})){_AFTER}",
    re.ASCII,
)
_TOLL_FREE = re.compile(r"1(?:800|833|844|855|866|877|888)[2-9]\d{6}")


def _is_mobile(match: re.Match[str]) -> bool:
    """Not a US hotline such as 1800… in English text, unless somebody calls it theirs."""
    if not _TOLL_FREE.fullmatch(match[1]) or not _is_english(match.string):
        return True
    return bool(re.search(r"\b(?:[Mm]y|me|[Mm]obile|[Cc]ell)\b", _before(match, 30)))


@lru_cache(maxsize=4)  # asked again for each number of a text
def _is_english(text: str) -> bool:
    return bool(LATIN.search(text)) and not CHINESE.search(text)


_AREA = r"(?:010|02[0-57-9]|0[3-9][1-9]\d|0[79]0[1-9])"
_LOCAL = r"[1-9]\d{2,3}[- ]?\d{4}"
_EXTENSION = r"(?:\s?(?:转|分机号?|[Ee]xt(?:ension)?\.?|x)\s?[:：]?\s?\d{1,6}|-\d{1,5})?"
_CALL = r"(?:电话|座机|固话|宅电|传真)(?:号码?)?(?:[:：\s]|是|为){0,3}"
_LANDLINE = re.compile(
    rf"((?:[(（]{_AREA}[)）]\s?-?|{_BEFORE}{_AREA}[- ]{{1,3}}"
    rf"|(?:\+|{_BEFORE}00)86[- ]?(?:10|2\d|[3-9]\d\d)[- ]){_LOCAL}{_EXTENSION}){_AFTER}",
    re.ASCII,
)
_LANDLINE_AFTER_CUE = re.compile(
    rf"(?:{_CALL}|\b(?:[Tt]el|[Pp]hone)\.?:? ?)({_AREA}{_LOCAL}{_EXTENSION}){_AFTER}", re.ASCII
)
_LOCAL_AFTER_CUE = re.compile(rf"{_CALL}([2-8]\d{{6,7}}){_AFTER}", re.ASCII)


def _is_landline(match: re.Match[str]) -> bool:
    """Not three groups out of a longer row of groups of four, such as a card number."""
    if not re.fullmatch(r"\d{4} \d{4} \d{4}", match[1]):
        return True
    before, after = _before(match, 6), match.string[match.end() : match.end() + 6]
    return not (re.search(r"(?<!\d)\d{4} $", before) or re.match(r" \d{4}(?!\d)", after))


def _is_local_number(match: re.Match[str]) -> bool:
    return not _is_date(match[1])


def _is_date(digits: str) -> bool:
    """Whether the digits are a day from 1900 until today."""
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return date(1900, 1, 1) <= day <= date.today()


# Resident id and bank card

_RESIDENT_ID = re.compile(
    rf"(?:{_BEFORE}|(?<=ID))([1-9]\d{{5}}[- ]?(?:19|20)\d\d[- ]?\d{{4}}[- ]?\d{{3}}[\dXx]){_AFTER}",
    re.ASCII,
)
_OLD_RESIDENT_ID = re.compile(
    r"(?:身份证(?:件|号码?|件号码?|证号)?|证件号码?|\bID(?: card)?(?: number| no\.?)?)"
    rf"(?:[:：\s]|是|为|is){{0,3}}([1-9]\d{{14}}){_AFTER}",
    re.ASCII,
)
_REGIONS = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65"
    " 71 81 82 83 91".split()
)


def _has_id_shape(digits: str) -> bool:
    return digits[:2] in _REGIONS and _is_date(digits[6:14])


def _is_resident_id(match: re.Match[str]) -> bool:
    """Region, date of birth and check digit. Source: GB 11643-1999 (ISO 7064 MOD 11-2)."""
    digits = re.sub("[- ]", "", match[1]).upper()
    values = [10 if digit == "X" else int(digit) for digit in digits]
    checked = sum(value << 17 - index for index, value in enumerate(values)) % 11 == 1
    return checked and _has_id_shape(digits)


def _is_old_resident_id(match: re.Match[str]) -> bool:
    return _has_id_shape(f"{match[1][:6]}19{match[1][6:]}")


_BANK_CARD = re.compile(
    rf"{_BEFORE}(\d{{16,19}}|\d{{6}} \d{{10,13}}|(?<!\d{{3}} )"
    rf"\d{{4}}([- ])\d{{4}}\2\d{{4}}\2\d{{4}}(?:\2\d{{1,3}})?(?! \d)){_AFTER}",
    re.ASCII,
)
_ISSUER = re.compile(
    r"62\d{14,17}|4\d{15}(?:\d{3})?|(?:5[1-5]|2[2-7]|35|65|60|68|69)\d{14}(?:\d{3})?"
    r"|955[89]\d{15}"
)


def _is_bank_card(match: re.Match[str]) -> bool:
    """Issuer and Luhn digit; 18 digits that look like a resident id need the word card before."""
    digits = re.sub("[- ]", "", match[1])
    if not _ISSUER.fullmatch(digits) or not _luhn(digits):
        return False
    looks_like_id = len(digits) == 18 and _has_id_shape(digits)
    return not looks_like_id or bool(re.search("卡|[Cc]ard", _before(match, 12)))


def _luhn(digits: str) -> bool:
    """Source: ISO/IEC 7812-1, annex B."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


# E-mail and IP addresses

_EMAIL = re.compile(
    r"(?<![\w.%+-])(\w[\w%+-]{0,63}(?:\.[\w%+-]{1,63}){0,8}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.)+[A-Za-z]{2,24})(?!\w)",
    re.ASCII,
)


def _is_email(match: re.Match[str]) -> bool:
    """No password in a URL (`https://me:word@host.com`), no file (`logo@2x.png`), no git remote."""
    in_url = re.search(r"://\S*$", _before(match, 100))
    return not in_url and not re.match(r"(?i:git@)|\S*@\dx\.", match[1])


_IPV4 = re.compile(
    r"(?:(?<![\w./])|(?<=[Ii][Pp])|(?<=//))((?:\d{1,3}\.){3}\d{1,3})(?!\w|\.\d|-\w)", re.ASCII
)
_IPV6 = re.compile(  # all public addresses so far begin with 2 or 3
    r"(?<![\w.])(?<![\dA-Fa-f]{3}:)(?<!::)([23][\dA-Fa-f]{3}(?::[\dA-Fa-f]{0,4}){2,7})"
    r"(?:(?<=[\dA-Fa-f])|(?<=::))(?!\w|:?[\dA-Fa-f])",
    re.ASCII,
)
_VERSION_BEFORE = re.compile(
    r"(?:版本|版|固件|升级|更新|章|节|条|款|图|表|第|(?<![A-Za-z])(?:v|ver|version|release|build|firmware|"
    r"upgraded|updated|section|chapter|figure|table))[号到至为是]?\W{0,3}(?:is |to )?$",
    re.IGNORECASE,
)
_VERSION_AFTER = re.compile(r"\s?(?:版|小?节|章|条)")
_IP_BEFORE = re.compile(
    r"(?:(?<![a-z])ip|地址|服务器|主机|登[录陆]|访问|来自|网关|代理|连接|[公内外]网|dns|ping|server|host|"
    r"address|from|connect|proxy|log(?:in|ged)|ssh|@|://)[^\d\[\]]{0,12}$",
    re.IGNORECASE,
)
_IP_AFTER = re.compile(r"[:/]\d|登[录陆]|访问|[^\d\[\]]{0,10}(?:IP|DNS)")


def _is_public_ipv4(match: re.Match[str]) -> bool:
    """Public, and neither a version or section number nor a list of small numbers."""
    if not _is_public(match):
        return False
    before, after = _before(match, 24), match.string[match.end() : match.end() + 16]
    if _VERSION_BEFORE.search(before) or _VERSION_AFTER.match(after):
        return False
    if any(int(octet) >= 100 for octet in match[1].split(".")):
        return True
    alone = match.span(1) == (0, len(match.string))
    return alone or bool(_IP_BEFORE.search(before) or _IP_AFTER.match(after))


def _is_public(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.ip_address(match[1])
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


# WeChat and QQ

_ACCOUNT = r"(?:\s?同?号码?|账号|帐号| ?(?:ID|id|account|number|[Nn]o\.))?"
_IS = r"(?:[:：=(（\s]|是|为|is\b){0,4}"
_QQ = re.compile(
    rf"(?:(?<![A-Za-z])[Qq] ?[Qq]|扣扣|企鹅|加我?[Qq])(?:/微信)?{_ACCOUNT}{_IS}"
    rf"([1-9]\d{{4,10}}){_AFTER}(?!@|\s?(?:[个元人万次%]|users))",
    re.ASCII,
)
_WECHAT = re.compile(
    r"(?:[微薇威]信|[加+]我?[Vv](?:信|(?![A-Za-z]))|(?<!\w)(?:(?:[Ww]e[Cc]hat|WECHAT|[Ww]ei[Xx]in"
    rf"|[VvWw]x|[VW]X)(?!\w)|[Vv]信))(?:/[Qq]{{2}})?{_ACCOUNT}{_IS}"
    r"([A-Za-z][-\w]{5,19})(?![-\w@]|\.\w)",
    re.ASCII,
)


def _is_wechat(match: re.Match[str]) -> bool:
    """Letters alone may be a word (`WeChat payment`), so that the cue must announce an id."""
    if re.search(r"[\d_-]", match[1]):
        return True
    before = match.string[max(0, match.start() - 2) : match.start()]
    cue = match.string[match.start() : match.start(1)]
    added = before.endswith(("加", "加我")) or cue[0] in "加+"
    own = before.endswith(("我", "我的")) and "是" in cue
    return added or own or bool(re.search("[:：=]|号|ID|id", cue))


EMAILS = (Detector("email", _EMAIL, _is_email),)
NUMBERS = (
    Detector("resident_id", _RESIDENT_ID, _is_resident_id),
    Detector("resident_id", _OLD_RESIDENT_ID, _is_old_resident_id),
    Detector("bank_card", _BANK_CARD, _is_bank_card),
    Detector("qq", _QQ),
    Detector("mobile", _MOBILE, _is_mobile),
    Detector("landline", _LANDLINE, _is_landline),
    Detector("landline", _LANDLINE_AFTER_CUE),
    Detector("landline", _LOCAL_AFTER_CUE, _is_local_number),
    Detector("ip", _IPV4, _is_public_ipv4),
    Detector("ip", _IPV6, _is_public),
)
WECHATS = (Detector("wechat", _WECHAT, _is_wechat),)
