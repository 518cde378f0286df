import pytest

from burnish.cleaning.privacy import find
from burnish.recipe import PrivacySettings

ALL = PrivacySettings().kinds


def found(text, kinds=ALL):
    return [(finding.kind, finding.text) for finding in find(text, kinds)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("我的电话是13812345678，", "13812345678"),
        ("13812345678", "13812345678"),
        ("手机：138-1234-5678", "138-1234-5678"),
        ("请打138 1234 5678找我", "138 1234 5678"),
        ("138.1234.5678", "138.1234.5678"),
        ("电话：138.1234.5678。", "138.1234.5678"),
        ("138 12345678", "138 12345678"),
        ("电话+8613812345678", "+8613812345678"),
        ("Call me at +86 138 1234 5678", "+86 138 1234 5678"),
        ("(+86)13812345678", "(+86)13812345678"),
        ("0086-13812345678", "0086-13812345678"),
        ("8613812345678", "8613812345678"),
        ("手机１３８１２３４５６７８。", "１３８１２３４５６７８"),
        ("138–1234–5678", "138–1234–5678"),
        ("Tel13812345678", "13812345678"),
        ("vx13812345678", "13812345678"),
        ("微信同号：13812345678", "13812345678"),
        ("My phone number is 13812345678.", "13812345678"),
        ("My mobile is 18002255237.", "18002255237"),
        ("我的手机18002255237", "18002255237"),
    ],
)
def test_a_mobile_number_is_found_however_it_is_written(text, number):
    assert found(text) == [("mobile", number)]


@pytest.mark.parametrize(
    "text",
    [
        "编号12812345678",
        "订单138123456789",
        "013812345678",
        "1381234567",
        "0.13812345678",
        "13812345678.5",
        "order_13812345678abc",
        "ID20-13812345678",
        "138****5678",
        "138.1234.56789",
        "1.138.1234.5678",
        "138.1234 5678",
        "v138.1234.5678",
        "1-800-225-5237",
        "toll-free at 18002255237",
        "call 18662255237 for free",
        "the result is = -13812345678",
        "2013-12-13 14:15:16",
    ],
)
def test_other_digits_and_us_hotlines_in_english_are_no_mobile_number(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("电话：010-62345678", "010-62345678"),
        ("0755-8234567，", "0755-8234567"),
        ("(010)62345678", "(010)62345678"),
        ("（021）5888-8888", "（021）5888-8888"),
        ("021 58888888", "021 58888888"),
        ("010-62345678转123", "010-62345678转123"),
        ("010-62345678-801。", "010-62345678-801"),
        ("010-62345678 ext. 12", "010-62345678 ext. 12"),
        ("+86-10-62345678", "+86-10-62345678"),
        ("+86 755 8234 5678", "+86 755 8234 5678"),
        ("０１０－６２３４５６７８", "０１０－６２３４５６７８"),
        ("座机01062345678", "01062345678"),
        ("电话：62345678", "62345678"),
    ],
)
def test_a_landline_number_is_found_with_its_area_or_behind_a_cue(text, number):
    assert found(text) == [("landline", number)]


@pytest.mark.parametrize(
    "text",
    [
        "客服400-820-8820",
        "800-810-8888",
        "1-800-232-4636",
        "404-639-1075",
        "01062345678",
        "62345678",
        "0123-4567890",
        "010-020",
        "2010-12-20至2011-01-05",
        "化验0.10-62345",
        "12010-62345678",
        "卡0311 0462 3218 7197",
        "电话20230101开通",
    ],
)
def test_hotlines_dates_and_ranges_are_no_landline_number(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("身份证号11010519491231002X", "11010519491231002X"),
        ("身份证：11010519491231002x，", "11010519491231002x"),
        ("110105 19491231 002X", "110105 19491231 002X"),
        ("１１０１０５１９４９１２３１００２Ｘ", "１１０１０５１９４９１２３１００２Ｘ"),
        ("ID11010519491231002X", "11010519491231002X"),
        ("身份证号码为110105491231002", "110105491231002"),
        ("ID card: 110105491231002", "110105491231002"),
    ],
)
def test_a_resident_id_is_found_by_its_date_and_check_digit(text, number):
    assert found(text) == [("resident_id", number)]


@pytest.mark.parametrize(
    "text",
    [
        "110105194912310021",  # check digit should be X
        "990105194912310024",  # no such region
        "11010518991231002X",  # before 1900
        "110105194913310021",  # month 13
        "身份证号110105491331002",  # 15 digits, month 13
        "流水号110105491231002",  # 15 digits without a cue
        "A11010519491231002X",
        "11010519491231002X9",
    ],
)
def test_a_number_with_a_wrong_date_region_or_check_digit_is_no_resident_id(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("银行卡6222021234567890128", "6222021234567890128"),
        ("卡号：6222 0212 3456 7890 128", "6222 0212 3456 7890 128"),
        ("622202 1234567890128", "622202 1234567890128"),
        ("card 4111-1111-1111-1111.", "4111-1111-1111-1111"),
        ("4111111111111111", "4111111111111111"),
        ("5500000000000004", "5500000000000004"),
    ],
)
def test_a_bank_card_is_found_by_issuer_and_luhn_digit(text, number):
    assert found(text) == [("bank_card", number)]


@pytest.mark.parametrize(
    "text",
    [
        "银行卡6222021234567890123",  # Luhn digit should be 8
        "订单1111111111111117",  # no issuer begins with 11
        "62220212345678901281",  # 20 digits
        "4111-1111 1111-1111",
        "4111111111111111-2",
        "hash_4111111111111111",
        "0000 0000 0000 0000",
    ],
)
def test_a_long_number_without_issuer_or_luhn_digit_is_no_bank_card(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("邮箱zhangsan@example.com", "zhangsan@example.com"),
        ("发到li.wei+med@mail.example.com.cn。", "li.wei+med@mail.example.com.cn"),
        ("Write to <J-Smith_9@Example.ORG>.", "J-Smith_9@Example.ORG"),
        ("我的QQ邮箱123456789@qq.com", "123456789@qq.com"),
        ("13812345678@163.com", "13812345678@163.com"),
        ("a@b.io, thanks", "a@b.io"),
        ("zhangsan＠example．com", "zhangsan＠example．com"),
    ],
)
def test_an_email_address_is_found_beside_any_script(text, address):
    assert found(text) == [("email", address)]


@pytest.mark.parametrize(
    "text",
    [
        "@张三",
        "zhangsan@example",
        "a @ b.com",
        "a..b@example.com",
        "react@18.2.0",
        "logo@2x.png",
        "git@github.com:owner/name",
        "https://me:word@host.com/",
        "@app.route",
        "user@domain..com",
    ],
)
def test_other_uses_of_the_at_sign_are_no_email_address(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("IP 8.8.8.8", "8.8.8.8"),
        ("8.8.8.8", "8.8.8.8"),
        ("ip8.8.8.8。", "8.8.8.8"),
        ("从202.108.22.5登录", "202.108.22.5"),
        ("http://123.125.114.144:8080/", "123.125.114.144"),
        ("47.98.12.33:22", "47.98.12.33"),
        ("2001:4860:4860::8888", "2001:4860:4860::8888"),
        ("IPv6:2400:3200::1，", "2400:3200::1"),
        ("[2001:4860:4860:0:0:0:0:8888]:80", "2001:4860:4860:0:0:0:0:8888"),
    ],
)
def test_a_public_ip_address_is_found(text, address):
    assert found(text) == [("ip", address)]


@pytest.mark.parametrize(
    "text",
    [
        "IP 192.168.1.1",
        "IP 10.0.0.5",
        "IP 127.0.0.1",
        "IP 169.254.1.1",
        "IP 203.0.113.9",
        "IP 224.0.0.251",
        "子网掩码255.255.255.0",
        "IP 256.1.1.300",
        "版本1.2.3.4",
        "version 120.1.30.4",
        "v120.1.30.4",
        "Chrome/120.0.0.120",
        "固件升级到 10.20.130.40",
        "第1.2.3.4节",
        "Section 4.3.2.101",
        "五项中1.3.4.5.阳性",
        "结果6.8.5.8.7.1.1",
        "::1",
        "fe80::1",
        "2001:db8::1",
        "ff02::1",
        "10:20:30",
        "std::e",
    ],
)
def test_private_addresses_versions_and_lists_are_no_public_ip_address(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("微信：lily_2020", "lily_2020"),
        ("微信号是abc12345。", "abc12345"),
        ("加我微信wx123456", "wx123456"),
        ("我的微信是zhangsan", "zhangsan"),
        ("微信号：ZhangSan", "ZhangSan"),
        ("微信（abc-12345）", "abc-12345"),
        ("加V：abc12345", "abc12345"),
        ("VX:abc12345", "abc12345"),
        ("微信/QQ：abc12345", "abc12345"),
        ("My WeChat ID is john_smith", "john_smith"),
        ("wechat: johnsmith,", "johnsmith"),
    ],
)
def test_a_wechat_id_is_found_behind_its_cue(text, account):
    assert found(text) == [("wechat", account)]


@pytest.mark.parametrize(
    "text",
    [
        "微信公众号：yixue_health",
        "微信支付",
        "微信：无",
        "微信号：abc1",
        "微信号：a23456789012345678901",
        "WeChat payment is supported",
        "WeChat is popular",
        "参加Vietnam2020",
        "abc_12345",
        "wechat: https://example.com",
    ],
)
def test_words_behind_wechat_are_no_id(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("QQ：123456789", "123456789"),
        ("qq12345", "12345"),
        ("我的QQ号是1234567890。", "1234567890"),
        ("加我QQ 10001", "10001"),
        ("扣扣（123456）", "123456"),
        ("QQ 13812345678", "13812345678"),
        ("QQ/微信：123456789", "123456789"),
        ("My QQ number is 123456", "123456"),
    ],
)
def test_a_qq_number_is_found_behind_its_cue(text, account):
    assert found(text) == [("qq", account)]


@pytest.mark.parametrize(
    "text",
    [
        "123456789",
        "QQ：1234",
        "QQ：012345",
        "QQ：123456789012",
        "QQ群：123456789",
        "QQ上有10000个好友",
        "QQ 10000人",
        "FAQQ 123456",
        "QQ-plot of 12345 points",
    ],
)
def test_other_numbers_near_qq_are_no_account(text):
    assert found(text) == []


def test_a_number_is_of_the_most_specific_kind_among_those_asked_for():
    text = "QQ 13812345678"
    assert found(text) == [("qq", "13812345678")]
    assert found(text, ["mobile"]) == [("mobile", "13812345678")]


def test_eighteen_digits_like_a_resident_id_are_a_card_only_behind_the_word():
    digits = "622201198001010008"  # region 62, a date, a Luhn digit, and a wrong check digit
    assert found(f"编号{digits}") == []
    assert found(f"卡号{digits}") == [("bank_card", digits)]
