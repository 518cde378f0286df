"""Made-up rows with personal data of known kinds, and rows that only resemble them.

All numbers, names and addresses come from a seeded generator; none was taken from anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from burnish.recipe import PrivacyKind

KINDS: tuple[PrivacyKind, ...] = get_args(PrivacyKind)


@dataclass(frozen=True, slots=True)
class Row:
    """A text and what must be found in it: pairs of kind and text, from left to right."""

    text: str
    expected: tuple[tuple[PrivacyKind, str], ...] = ()


def made_up_rows(kind: PrivacyKind, count: int, seed: int = 0) -> list[Row]:
    """So many rows, of which every third holds nothing of any kind and the others one of `kind`."""
    dice = random.Random(f"{kind} {seed}")
    rows = []
    for number in range(count):
        if number % 3 == 2:
            rows.append(Row(_around(dice, _near_miss(dice, kind))))
            continue
        datum = _DATA[kind](dice)
        english = dice.random() < 0.4
        if kind == "name" and english:
            datum = _english_name(dice)
        template = dice.choice((_ENGLISH if english else _CHINESE)[kind])
        rows.append(Row(_around(dice, template.format(datum)), ((kind, datum),)))
    return rows


def _around(dice: random.Random, core: str) -> str:
    chinese = any("\u4e00" <= letter <= "\u9fff" for letter in core)
    before, after = (CHINESE_TALK, CHINESE_TALK) if chinese else (ENGLISH_TALK, ENGLISH_TALK)
    first = dice.choice(before) if dice.random() < 0.6 else ""
    last = dice.choice(after) if dice.random() < 0.6 else ""
    if last and core[-1] not in "。，":
        core += dice.choice("。，；\n" if chinese else "\n;")
    return f"{first}{core}{last}" if chinese else f"{first} {core} {last}".strip()


CHINESE_TALK = (
    "您好，医生，我最近头痛得厉害。",
    "孩子发烧38.5℃，吃了1.5mg/kg的布洛芬。",
    "血压130/80，心率72次/分。",
    "2023-01-01做的检查，白细胞4.5×10^9/L。",
    "请问需要住院吗？",
    "谢谢您的耐心解答。\n",
    "乙肝表面抗体218.30，正常值0-10。",
)
ENGLISH_TALK = (
    "Hello doctor, I have had a headache for 3 days.",
    "My blood pressure is 130/80 and my pulse is 72.",
    "The lab report of 2023-01-01 said 4.5 x 10^9/L.",
    "Thank you very much for your help.",
    "She takes 1.5 mg/kg twice a day.\n",
)


# --- The data ---


def _digits(dice: random.Random, length: int) -> str:
    return "".join(dice.choice("0123456789") for _ in range(length))


def _mobile(dice: random.Random) -> str:
    first, middle, last = (
        f"1{dice.choice('3456789')}{_digits(dice, 1)}",
        *(_digits(dice, 4) for _ in range(2)),
    )
    blank = dice.choice(["", "", "", "-", " "])
    prefix = dice.choice(["", "", "", "+86", "+86 ", "0086", "86-", "+86-", "(+86)"])
    return f"{prefix}{first}{blank}{middle}{blank}{last}"


def _landline(dice: random.Random) -> str:
    area = dice.choice(
        "010 021 022 023 024 025 027 028 029 0311 0371 0451 0512 0571 0755 0931".split()
    )
    number = dice.choice("2345678") + _digits(dice, dice.choice([6, 7]) if len(area) == 4 else 7)
    style = dice.choice(["{}-{}", "{}-{}", "({}){}", "（{}）{}", "{} {}"])
    extension = dice.choice(["", "", "", "转", "-", " ext. "])
    return style.format(area, number) + (extension + _digits(dice, 3) if extension else "")


def _resident_id(dice: random.Random) -> str:
    region = dice.choice("110105 310104 440305 510107 330106 420111 610103 230102 650102".split())
    birth = f"{dice.randint(1930, 2020)}{dice.randint(1, 12):02}{dice.randint(1, 28):02}"
    body = region + birth + _digits(dice, 3)
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))
    check = "10X98765432"[total % 11]
    return body + (check.lower() if dice.random() < 0.3 else check)


def _bank_card(dice: random.Random) -> str:
    starts = ["622202", "621700", "622848", "621226", "625962", "622588", "4", "53", "356"]
    start = dice.choice(starts)
    length = 19 if start in starts[:4] else 16
    body = start + _digits(dice, length - len(start) - 1)
    card = next(body + last for last in "0123456789" if _luhn_total(body + last) % 10 == 0)
    blank = dice.choice(["", "", "", " ", "-"])
    return blank.join(card[index : index + 4] for index in range(0, length, 4)) if blank else card


def _luhn_total(digits: str) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total


def _email(dice: random.Random) -> str:
    user = dice.choice(["zhangsan", "li.wei", "wang_xm", "j-smith", "mary+med", _digits(dice, 9)])
    host = dice.choice(
        "example.com 163.com qq.com mail.example.org hospital.com.cn foo-bar.io".split()
    )
    return f"{user}{dice.choice(['', _digits(dice, 2)])}@{host}"


def _ip(dice: random.Random) -> str:
    if dice.random() < 0.3:
        start = dice.choice(["2400", "2606", "2a00"])
        groups = [f"{dice.randrange(1, 65536):x}" for _ in range(dice.choice([1, 3, 7]))]
        return ":".join([start, *groups]) + ("" if len(groups) == 7 else "::8")
    first = dice.choice([8, 39, 47, 58, 61, 101, 114, 120, 123, 140, 183, 202, 218])
    return ".".join(str(octet) for octet in (first, *(dice.randint(21, 250) for _ in range(3))))


def _wechat(dice: random.Random) -> str:
    word = dice.choice(["lily", "zhang", "wxid_ab", "doctor_li", "abc_", "XiaoMing", "med-"])
    return word + _digits(dice, dice.randint(3, 6))


def _qq(dice: random.Random) -> str:
    return dice.choice("123456789") + _digits(dice, dice.randint(4, 9))


_SURNAMES = (
    "王李张刘陈杨赵吴周徐孙朱胡郭林罗高郑梁谢宋唐许韩邓冯曹彭曾肖田董袁潘蒋蔡余杜程苏魏丁沈姚卢"
)
_GIVEN = (
    "伟 芳 娜 敏 静 丽 强 磊 军 洋 勇 艳 杰 涛 超 明 秀英 秀兰 小明 建国 志强 桂英 海燕 "
    "晓东 子涵 雨欣 志和 亚男 国强 一鸣"
).split()


def _chinese_name(dice: random.Random) -> str:
    surname = (
        dice.choice(["欧阳", "上官", "司马"]) if dice.random() < 0.1 else dice.choice(_SURNAMES)
    )
    return surname + dice.choice(_GIVEN)


def _english_name(dice: random.Random) -> str:
    first = dice.choice("John Mary James Linda Wei Robert Susan Michael Emma David".split())
    last = dice.choice(
        "Smith Johnson O'Brien Williams Zhang McDonald Garcia Lee-Jones Brown".split()
    )
    return f"{first} {last}"


_DATA: dict[PrivacyKind, Callable[[random.Random], str]] = {
    "mobile": _mobile,
    "landline": _landline,
    "resident_id": _resident_id,
    "bank_card": _bank_card,
    "email": _email,
    "ip": _ip,
    "wechat": _wechat,
    "qq": _qq,
    "name": _chinese_name,
}


# --- Sentences around them ---

_CHINESE: dict[PrivacyKind, tuple[str, ...]] = {
    "mobile": (
        "我的电话是{}，",
        "联系电话：{}",
        "手机号{}。",
        "请拨打{}联系我",
        "手机：{}，随时联系",
        "{}是我的号码",
        "电话/微信同号 {}",
        "有事打{}（王先生）",
        "Tel:{} 找我",
    ),
    "landline": (
        "联系电话：{}",
        "医院总机{}，",
        "座机是{}。",
        "单位电话 {}",
        "请打{}咨询",
        "传真：{}",
        "（电话：{}）",
    ),
    "resident_id": (
        "身份证号{}",
        "身份证号码：{}，",
        "我的身份证是{}。",
        "证件号码 {}",
        "患者身份证号为{}，男",
        "（{}）",
        "ID：{}",
    ),
    "bank_card": (
        "银行卡{}",
        "卡号：{}，",
        "请把钱转到{}。",
        "工行卡号 {}",
        "我的信用卡号是{}，请退款",
        "账号：{} 开户行：工商银行",
    ),
    "email": (
        "邮箱{}",
        "请发到{}。",
        "我的邮箱是{}，",
        "电子邮件：{}",
        "报告请寄{}谢谢",
        "（{}）",
        "E-mail:{}",
    ),
    "ip": (
        "IP {}",
        "登录IP为{}，",
        "服务器地址：{}",
        "从{}登录过。",
        "ip地址是{}",
        "访问来自{}的用户",
        "DNS：{}",
    ),
    "wechat": (
        "微信：{}",
        "微信号：{}，",
        "加我微信{}",
        "我的微信是{}。",
        "加微信 {} 详聊",
        "VX：{}",
        "vx:{}，",
        "加V：{}",
        "微信号是{}",
        "WeChat：{}",
    ),
    "qq": (
        "QQ：{}",
        "我的QQ是{}，",
        "qq号{}",
        "QQ号码：{}。",
        "加我QQ {}",
        "扣扣：{}",
        "加QQ{}详聊",
        "qq:{}",
    ),
    "name": (
        "我叫{}，",
        "我叫{}，今年35岁。",
        "我叫{}今年35岁",
        "姓名：{}",
        "姓名:{} 性别：男",
        "患者姓名：{}，",
        "患者{}，男，45岁",
        "患者{}因发热3天入院",
        "病人{}，女，",
        "我是{}，想咨询一下",
        "我的名字叫{}。",
        "联系人：{}，",
        "患者：{}",
        "患者{}的检查报告",
        "姓名 {} 年龄 30",
    ),
}
_ENGLISH: dict[PrivacyKind, tuple[str, ...]] = {
    "mobile": (
        "Call me at {}.",
        "My mobile is {},",
        "Phone: {}",
        "You can reach me on {} any time.",
        "My phone number is {}.",
        "Contact number {}",
    ),
    "landline": (
        "Our office: {}.",
        "Phone: {}",
        "Please call {} in the morning.",
        "Tel {}",
        "Fax: {},",
    ),
    "resident_id": (
        "My resident ID is {}.",
        "ID number: {}",
        "Chinese ID card {}, please check.",
        "({})",
    ),
    "bank_card": (
        "My card number is {}.",
        "Card: {}",
        "Please refund to {}, thanks.",
        "I paid with card {}",
    ),
    "email": (
        "Email me at {}.",
        "My e-mail: {}",
        "Write to <{}>.",
        "Contact {}, please.",
        "mailto:{}",
    ),
    "ip": (
        "My IP is {}.",
        "IP address: {}",
        "Login from {}, yesterday",
        "The server at {} is down.",
        "ping {}",
        "http://{}/",
    ),
    "wechat": (
        "My WeChat is {}.",
        "WeChat ID: {}",
        "Add me on WeChat: {}",
        "wechat: {},",
        "WeChat {}",
        "Add my WeChat {} please",
    ),
    "qq": ("My QQ is {}.", "QQ: {}", "QQ number: {},", "Add my QQ {} please", "qq {}"),
    "name": (
        "My name is {}.",
        "My name is {} and I am 45.",
        "Patient name: {}",
        "Patient Name: {}, age 45",
        "Name: {}\nAge: 45",
        "Hi, my name is {}, from Leeds.",
        "Patient: {}, 45 years old.",
        "The patient's name is {}.",
    ),
}


# --- What only resembles them ---


def _near_miss(dice: random.Random, kind: PrivacyKind) -> str:
    makers = _NEAR_MISSES[kind]
    maker = dice.choice(makers)
    return maker if isinstance(maker, str) else maker(dice)


def _wrong_check(dice: random.Random) -> str:
    good = _resident_id(dice)
    wrong = dice.choice([last for last in "0123456789X" if last != good[-1].upper()])
    return f"身份证号{good[:-1]}{wrong}"


def _wrong_date(dice: random.Random) -> str:
    body = (
        f"110105{dice.choice(['19491331', '20230230', '18991231', '29990101'])}{_digits(dice, 3)}"
    )
    total = sum(
        int(digit) * weight
        for digit, weight in zip(
            body, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), strict=True
        )
    )
    return f"身份证号{body}{'10X98765432'[total % 11]}"


def _wrong_luhn(dice: random.Random) -> str:
    card = _bank_card(dice)
    return f"卡号{card[:-1]}{(int(card[-1]) + dice.randint(1, 9)) % 10}"


def _private_ip(dice: random.Random) -> str:
    start = dice.choice(
        ["192.168.", "10.3.", "172.16.", "127.0.", "169.254.", "224.0.", "203.0.113."]
    )
    octets = [str(dice.randrange(1, 250)) for _ in range(4 - start.count("."))]
    return f"服务器IP {start}{'.'.join(octets)}"


def _version(dice: random.Random) -> str:
    number = ".".join(str(dice.randint(1, 150)) for _ in range(4))
    return dice.choice(["版本{}", "version {}", "v{}", "固件版本：{}", "Version: {}"]).format(
        number
    )


_NEAR_MISSES: dict[PrivacyKind, tuple[str | Callable[[random.Random], str], ...]] = {
    "mobile": (
        lambda dice: f"订单号{dice.choice('13')}3{_digits(dice, 10)}0",
        lambda dice: f"编号1{dice.choice('012')}{_digits(dice, 9)}",
        lambda dice: f"order_139{_digits(dice, 8)}abc",
        lambda dice: f"数值0.139{_digits(dice, 8)}",
        lambda dice: f"Call the hotline 1800{dice.choice('23456789')}{_digits(dice, 6)} for free.",
        lambda dice: f"Call 1-800-{dice.randint(200, 999)}-{_digits(dice, 4)}",
        "血压130/80，心率150",
        "2013-01-12 13:45:20",
    ),
    "landline": (
        "发病2010-12-20到2011-01-05",
        "化验值0.10-62.3，参考0.0-1.2",
        "Call 404-639-1075 or 1-800-232-4636.",
        "客服热线400-820-8820",
        "12010-62345678901",
        "范围010-020",
    ),
    "resident_id": (_wrong_check, _wrong_date, "流水号110105194912310021234", "住院号110105194912"),
    "bank_card": (
        _wrong_luhn,
        lambda dice: f"订单号2023{_digits(dice, 16)}",
        lambda dice: f"单号1{_digits(dice, 15)}",
        "0000 0000 0000 0000",
    ),
    "email": (
        "@张三 你好",
        "abc@后面没有域名",
        "zhangsan@example",
        "每天2次@饭后",
        "Follow us @clinic today.",
        "a @ b.com",
        "pip install react@18.2.0",
    ),
    "ip": (
        _private_ip,
        _version,
        "第1.2.3.4节",
        "见章节3.2.1.4",
        "256.300.1.1",
        "时间12:30:45",
        "2001:db8::1",
        "fe80::1",
        "1.2.3",
        "乙肝五项1.3.4.5阳性",
    ),
    "wechat": (
        "微信公众号：yixue_health",
        "微信支付了200元",
        "请用微信扫码",
        "WeChat payment is supported.",
        "微信小程序",
        "加微信群聊",
        "微信：无",
    ),
    "qq": (
        "QQ邮箱怎么注册",
        "QQ：1234",
        "我QQ上有500个好友",
        "QQ音乐2023",
        "QQ：0123456",
        "QQ-plot of 12345 points",
    ),
    "name": (
        "我叫了救护车",
        "我叫不出名字",
        "我是男性，35岁",
        "我是医生，",
        "患者高烧不退",
        "患者黄疸，",
        "病人白细胞高",
        "我是高血压患者",
        "姓名、年龄、电话",
        "患者张先生，30岁",
        "患者李某，男",
        "王女士最近头晕",
        "患者于昨日入院",
        "Patient name unknown.",
        "My name is on the list.",
        "Name: unknown",
        "我是高中生，",
        "患者常见症状",
        "患者严重，",
        "我叫他来，",
        "药品名：阿司匹林",
        "Name the symptoms.",
    ),
}
