import csv
import itertools
import json
import pickle
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning import privacy
from burnish.cleaning.privacy import Finding, find, mask
from tests.cleaning.made_up_secrets import KINDS, made_up_rows

REAL = Path(__file__).parents[2].parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")


def test_a_finding_says_kind_place_and_text():
    assert find("电话13812345678，邮箱a@b.com", KINDS) == [
        Finding("mobile", 2, 13, "13812345678"),
        Finding("email", 16, 23, "a@b.com"),
    ]


def test_only_the_kinds_asked_for_are_found():
    text = "电话13812345678，邮箱a@b.com"
    assert [f.kind for f in find(text, ["email"])] == ["email"]
    assert find(text, []) == []
    assert find("", KINDS) == []


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("我的电话是13812345678，", "我的电话是[手机号]，"),
        ("电话010-62345678转12。", "电话[座机号]。"),
        ("身份证号11010519491231002X", "身份证号[身份证号]"),
        ("银行卡6222021234567890128", "银行卡[银行卡号]"),
        ("邮箱zhangsan@example.com", "邮箱[邮箱]"),
        ("登录IP 8.8.8.8", "登录IP [IP地址]"),
        ("加我微信wx123456", "加我微信[微信号]"),
        ("QQ：123456789", "QQ：[QQ号]"),
        ("我叫张伟，", "我叫[姓名]，"),
        ("Call me at +86 138 1234 5678.", "Call me at [phone]."),
        ("Phone: 010-62345678", "Phone: [landline]"),
        ("My ID is 11010519491231002X.", "My ID is [resident id]."),
        ("Card 4111 1111 1111 1111", "Card [bank card]"),
        ("Write to a@b.com.", "Write to [email]."),
        ("ping 8.8.8.8 first", "ping [ip address] first"),
        ("My WeChat is lily_2020.", "My WeChat is [wechat]."),
        ("My QQ is 12345", "My QQ is [qq]"),
        ("My name is John Smith.", "My name is [name]."),
        ("13812345678", "[手机号]"),
        ("My name is 张伟. I am 45.", "My name is [name]. I am 45."),
        ("患者姓名：John Smith，男，45岁", "患者姓名：[姓名]，男，45岁"),
        ("13812345678 13912345678", "[手机号] [手机号]"),
    ],
)
def test_a_mark_names_the_kind_in_the_language_around_it(text, masked):
    assert mask(text, KINDS)[0] == masked


def test_each_mark_follows_the_language_near_it():
    english = "Please call me at 13812345678 between nine and five on working days. " * 2
    assert mask(f"{english}请打13912345678找王医生，上午都在。", KINDS)[0] == (
        english.replace("13812345678", "[phone]") + "请打[手机号]找王医生，上午都在。"
    )


@pytest.mark.parametrize("entry", ["13812345678", "138 1234 5678", "138-1234-5678"])
def test_an_allowed_text_is_left_alone_whatever_its_blanks_and_hyphens(entry):
    text = "热线138-1234-5678，手机13912345678"
    masked, findings = mask(text, KINDS, [entry])
    assert masked == "热线138-1234-5678，手机[手机号]"
    assert [f.text for f in findings] == ["13912345678"]


def test_an_allowed_text_hides_no_other_and_no_part_of_a_longer_one():
    assert find("a@b.com", KINDS, ["a@b.com"]) == []
    assert [f.text for f in find("x.a@b.com", KINDS, ["a@b.com"])] == ["x.a@b.com"]


def test_data_that_touch_are_found_one_by_one():
    text = "13812345678 010-62345678 6222021234567890128 a@b.com"
    assert [f.kind for f in find(text, KINDS)] == ["mobile", "landline", "bank_card", "email"]


FRAGMENTS = [
    *(
        "13812345678",
        "138-1234-5678",
        "+86",
        "010-62345678",
        "01062345678",
        "转12",
        "0311 3456 7890",
    ),
    *("11010519491231002X", "110105491231002", "6222021234567890128", "4111 1111 1111 1111"),
    *("a@b.com", "@", "8.8.8.8", "120.1.2.3", "2001:4860:4860::8888", "lily_2020", "12345"),
    *(
        "微信",
        "微信号：",
        "VX",
        "加V",
        "QQ",
        "qq号",
        "电话",
        "身份证号",
        "ID ",
        "IP",
        "版本",
        "登录",
    ),
    *(
        "我叫",
        "我是",
        "姓名：",
        "患者",
        "张伟",
        "王小明",
        "高烧",
        "男",
        "和",
        "的",
        "先生",
        "，",
        "。",
    ),
    *("My name is ", "Name: ", "patient ", "I am ", "John", "Smith", "Call ", "my ", "18002255237"),
    *(
        " ",
        "-",
        ".",
        ":",
        "：",
        "/",
        "\n",
        "(",
        "）",
        "1",
        "１",
        "Ａ",
        "x",
        "_",
        "[",
        "]",
        "[手机号]",
    ),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=14).map("".join)


@given(TEXTS, st.sets(st.sampled_from(["13812345678", "a@b.com", "张伟", "lily_2020"])))
def test_masking_twice_changes_nothing(text, allow):
    masked, _ = mask(text, KINDS, allow)
    assert mask(masked, KINDS, allow) == (masked, [])


@given(TEXTS, st.sets(st.sampled_from(KINDS)))
def test_findings_are_in_order_apart_from_each_other_and_quote_the_text(text, kinds):
    findings = find(text, kinds)
    assert all(text[f.start : f.stop] == f.text and f.kind in kinds for f in findings)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(findings))


@given(TEXTS)
def test_masking_keeps_everything_else(text):
    masked, findings = mask(text, KINDS)
    rest, done = masked, 0
    for f in findings:
        assert rest.startswith(text[done : f.start])
        rest = rest[f.start - done :].partition("]")[2]
        done = f.stop
    assert rest == text[done:]


@given(TEXTS)
def test_the_quick_question_never_hides_a_finding(text):
    everything = tuple(detector for _, detectors in privacy._GATED for detector in detectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_GATED", ((lambda text: True, everything),))
        expected = find(text, KINDS)
    assert find(text, KINDS) == expected


@pytest.mark.parametrize(
    "piece",
    [
        "13812345678 ",
        "18002255237 ",
        "a@",
        "a.",
        "1-",
        "我叫王",
        "姓 名",
        "2001::",
        "; ",
        "://",
        "微信a",
    ],
)
@pytest.mark.timeout(60)
def test_a_long_text_takes_no_more_than_its_share_of_time(piece):
    find(piece * 20_000, KINDS)  # half a second, where it takes minutes if squared


def test_find_and_findings_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(find)) is find
    findings = find("QQ：12345", KINDS)
    assert pickle.loads(pickle.dumps(findings)) == findings


@pytest.mark.parametrize("kind", KINDS)
def test_precision_and_recall_on_made_up_rows_are_98_of_100(kind):
    right, found, expected = 0, 0, 0
    missed = Counter()
    for row in made_up_rows(kind, 1500):
        got = {(f.kind, f.text) for f in find(row.text, KINDS)}
        right += len(got & set(row.expected))
        found += len(got)
        expected += len(row.expected)
        if got != set(row.expected):
            missed[row.text] += 1
    assert expected == 1000
    assert right >= 0.98 * expected, missed
    assert right >= 0.98 * found, missed


@needs_real_data
def test_a_thousand_clean_medical_rows_do_not_change():
    with (REAL / "zh-medical-dialogue" / "dialogues.gb18030.csv").open(
        encoding="gb18030", newline=""
    ) as file:
        dialogues = [text for row in list(csv.reader(file))[:1001] for text in row]
    lines = (REAL / "zh-medical-knowledge" / "knowledge.json").read_text("utf-8").splitlines()
    knowledge = [text for line in lines[:1000] for text in json.loads(line).values()]
    for text in dialogues + knowledge:
        assert mask(text, KINDS) == (text, [])


@needs_real_data
def test_nothing_but_three_public_email_addresses_is_found_in_medquad():
    lines = (REAL / "en-medical-qa" / "medquad_5k.jsonl").read_text("utf-8").splitlines()
    texts = [text for line in lines for text in json.loads(line).values()]
    findings = [f for text in texts for f in find(text, KINDS)]
    assert [f.kind for f in findings] == ["email"] * 3
    assert all(f.text.endswith(".gov") for f in findings)
