import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.text import REPAIRS, is_about_markup, repair
from burnish.recipe import CleanSection

DEFAULTS = CleanSection()


def cleaned(text, **switches):
    section = CleanSection(**switches)
    return repair(text, section, about_markup=is_about_markup(text))[0]


@pytest.mark.parametrize(
    "text",
    [
        "HBV-DNA<10^3拷贝/ml，ALT>40U/L",
        "血压<140/90，BMI>28",
        "if a<b and c>d",
        "if a<b and c>d: print(a<b>c)",
        "p<0.05, 且 p>0.01",
        "$x<y$ 且 $y>z$",
        "i<p && p>0",
        "<user>你好",
        "Vec<String>",
        "std::map<a, b> x",
        "<http://example.com> <me@example.com>",
        "<i> alone, </b> alone",
        "<a href=x",
        "一行\n`<br>  ！！！` is a tag",
        "```html\n<p>x</p>  y\n\n\n\n１２\n```\n完",
        "```py\nunclosed <b>x</b>  y",
        "- a\n  - b\n    - c\n1. d\n\n   e",
        "def f():\n    return 1",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "等等……好",
        "等等......好",
        "你好，世界！“引号”和 ‘引号’ ﬁne",
        "你好,世界",
        "～～～",
        "👩\u200d⚕️ 👨\u200d👩\u200d👧 1️⃣ 🇨🇳",
        "क\u094d\u200dष می\u200cخواهم",
        "café naïve",
        "AT&T ?a=1&copy=2&lt=3 &nosuch;",
        "𠮷野家 e\u0301",
    ],
)
def test_text_that_is_not_dirty_stays(text):
    assert repair(text, DEFAULTS, about_markup=False) == (text, [])


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("<p>你好</p><p>再见</p>", "你好\n\n再见"),
        ("<b>重要</b>", "重要"),
        ("一<br>二<BR/>三", "一\n二\n三"),
        ("<a href=\"x\">链</a><font color=red>红</font><div class='a' id=b>t</div>", "链红\nt"),
        ('<img src="a.png" alt="x>y">图', "图"),
        ("<script>alert(1)</script>a<!-- c -->b<style type=x>p{}</style>", "ab"),
        (
            "10<sup>9</sup>/L，mol<sup>-1</sup>，H<sub>2</sub>O，药<sup>®</sup>",
            "10^9/L，mol^-1，H2O，药®",
        ),
        ("&lt;140&nbsp;mmHg &amp; 3 &gt; 2 &#x4f60;", "<140 mmHg & 3 > 2 你"),
        ("&amp;lt;", "&lt;"),
        ("å¤´ç—›", "头痛"),
        ("高血压怎么办".encode().decode("latin-1"), "高血压怎么办"),
        ("头痛\nå¤´ç—›", "头痛\n头痛"),
        ("\u3000\u3000你好\u3000\u3000世界\u3000\n\u3000\u3000再见", "你好 世界\n再见"),
        ("a\u00a0\u00a0b\t\tc", "a b c"),
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
        ("a\n \n\n\t\nb", "a\n\nb"),
        ("\n\n    if x:\n        y\n", "if x:\n    y"),
        ("行尾  \n下一行", "行尾\n下一行"),
        ("a\u200bb\ufeffc\u00add\x00e\x7f", "abcde"),
        ("中\u200d文\u200d", "中文"),
        ("１２０次，ＡＢｃ", "120次，ABc"),
        ("好。。。。是！！！吗？？，，", "好。是！吗？，"),
        ("等……………………好", "等……好"),
        ("你好<|im_end|>", "你好"),
        ("你好</s>\u200b", "你好"),
        ("<s>问：\n人", "问：\n人"),
        ("[INST] x [/INST]</s>", "x"),
        ("中间<|im_end|>留下", "中间<|im_end|>留下"),
    ],
)
def test_dirt_is_repaired(dirty, clean):
    assert repair(dirty, DEFAULTS, about_markup=False)[0] == clean


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("你好,世界:好;是!吗?", "你好，世界：好；是！吗？"),
        ("发热(高)了", "发热（高）了"),
        ("第一行,\n第二行", "第一行，\n第二行"),
        ("3,000 和 10:30, ok", "3,000 和 10:30, ok"),
        ("`你,好`", "`你,好`"),
    ],
)
def test_halfwidth_marks_between_chinese_become_fullwidth_when_asked(dirty, clean):
    assert cleaned(dirty, fullwidth_punctuation=True) == clean
    assert cleaned(dirty) == dirty


def test_the_changes_are_named_in_the_order_in_which_they_were_made():
    assert repair("<b>１</b>  2\x00", DEFAULTS, about_markup=False) == (
        "1 2",
        ["strip_html", "strip_control", "halfwidth_alphanumerics", "squeeze_spaces"],
    )


@pytest.mark.parametrize(
    ("switch", "text"),
    [
        ("repair_unicode", "å¤´ç—›"),
        ("strip_html", "<b>x</b>"),
        ("strip_control", "a\u200bb\x01"),
        ("squeeze_spaces", "a  b"),
        ("squeeze_marks", "好。。"),
        ("halfwidth_alphanumerics", "１"),
        ("strip_special_tokens", "x</s>"),
    ],
)
def test_every_repair_can_be_switched_off(switch, text):
    assert cleaned(text) != text
    assert cleaned(text, **{switch: False}) == text


def test_an_answer_about_markup_keeps_its_tags():
    assert is_about_markup("网页里怎么写粗体？")
    assert not is_about_markup("头痛怎么办？")
    assert repair("<b>x</b>", DEFAULTS, about_markup=True) == ("<b>x</b>", [])


def test_every_repair_is_a_switch_of_the_recipe():
    assert set(REPAIRS) <= set(CleanSection.model_fields)


@given(st.text())
def test_repair_never_crashes_and_leaves_no_control_characters(text):
    section = CleanSection(fullwidth_punctuation=True)
    repaired, names = repair(text, section, about_markup=False)
    assert (repaired != text) <= bool(names)
    assert "\r" not in repaired
    assert "\x00" not in repaired


@given(st.text(alphabet="ab c\n\t。，！<>/p&;`\u3000１", max_size=30))
def test_squeezing_twice_is_squeezing_once(text):
    for name in ("squeeze_spaces", "squeeze_marks", "halfwidth_alphanumerics"):
        once = REPAIRS[name](text)
        assert REPAIRS[name](once) == once
