import builtins
import itertools
import json
import random
import re
from pathlib import Path

import ftfy
import pytest
from ftfy import badness
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning import text as text_module
from burnish.cleaning.markup import is_about_markup
from burnish.cleaning.text import (
    REPAIRS,
    convert_chinese,
    is_garbled,
    repair,
    repair_unicode,
)
from burnish.errors import MissingExtraError
from burnish.recipe import CleanSection

DEFAULTS = CleanSection()
REAL = Path(__file__).parents[2].parent / "shared" / "data"


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
        "等等...好",
        "真的！！ 吗？？",
        "a\tb\n1\t2",
        "| a   | b |",
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
        ("&amp;lt;5 &amp;nbsp;kg", "<5 kg"),
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
        ("好。。。。是！！！吗？？？，，", "好。是！吗？，"),
        ("等等......好", "等等……好"),
        ("等…......", "等……"),
        ("好!!!!", "好!"),
        ("a\u2009\u2009b\u202fc", "a b c"),
        ("１２．５ｍｇ", "12.5mg"),
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
        ("吗??好", "吗？？好"),
        ("压(mmHg)。(1)你", "压（mmHg）。(1)你"),
        ("f(高) [链](高) (高)x", "f(高) [链](高) （高）x"),
        ("高(甲:乙)", "高（甲：乙）"),
    ],
)
def test_halfwidth_marks_between_chinese_become_fullwidth_when_asked(dirty, clean):
    assert cleaned(dirty, fullwidth_punctuation=True) == clean
    assert cleaned(dirty) == dirty


def test_the_changes_are_named_in_the_order_in_which_they_were_made():
    assert repair("<b>１</b>  2\x00", DEFAULTS, about_markup=False) == (
        "1 2",
        ["strip_control", "strip_html", "halfwidth_alphanumerics", "squeeze_spaces"],
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


def test_an_answer_that_shows_escaped_tags_keeps_them_and_one_that_is_escaped_is_unwrapped():
    assert cleaned("输入 &lt;br&gt; 即可，p &lt; 5") == "输入 &lt;br&gt; 即可，p &lt; 5"
    assert cleaned("&lt;p&gt;p &lt; 5&lt;/p&gt;") == "p < 5"


def test_marks_of_direction_stay_in_hebrew_and_arabic_texts_only():
    assert cleaned("a\u202eb\u202c\u200f") == "ab"
    assert cleaned("א\u200fb") == "א\u200fb"


def test_chinese_characters_are_converted_when_asked():
    pytest.importorskip("opencc")
    assert convert_chinese("頭痛怎麼辦", "t2s") == "头痛怎么办"
    assert convert_chinese("头发", "s2t") == "頭髮"
    section = CleanSection(convert_chinese="t2s")
    assert repair("頭痛  ok", section, about_markup=False) == (
        "头痛 ok",
        ["squeeze_spaces", "convert_chinese"],
    )
    assert repair("plain", section, about_markup=False) == ("plain", [])


def test_a_missing_opencc_is_named_with_its_extra(monkeypatch):
    found = builtins.__import__

    def without_opencc(name, *args, **kwargs):
        if name == "opencc":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_opencc)
    text_module._converter.cache_clear()
    with pytest.raises(MissingExtraError, match=r"burnish\[opencc\]"):
        convert_chinese("頭", "t2s")


IN_MOJIBAKE = re.compile(f"[{''.join(badness.MOJIBAKE_CATEGORIES.values())}]")
MOJIBAKE = [c for c in map(chr, range(0x80, 0xFFFF)) if IN_MOJIBAKE.match(c)] + list("aZ .\n")


def by_ftfy(text):
    """What ftfy makes of a text; of one with a letter that is no evidence, what we do."""
    if text_module._LONE.search(text):
        return repair_unicode(text)
    return ftfy.fix_text(text, text_module._ftfy_config(fix_encoding=True))


def test_what_is_not_shown_to_ftfy_it_would_have_left_alone():
    common = [c for c in MOJIBAKE if not text_module._GARBLED.search(c)]
    marks = [c for c in common if not "\u0386" <= c <= "\u045f"] + list("αаΑЯ")
    candidates = itertools.chain(
        map("".join, itertools.product(MOJIBAKE, repeat=2)),
        map("".join, itertools.product(marks, repeat=3)),
    )
    assert [
        text
        for text in candidates
        if badness.is_bad(text) and not text_module._may_be_garbled(text)
    ] == []


def test_repair_unicode_equals_ftfy_with_our_settings():
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choice(MOJIBAKE) for _ in range(draw.randint(1, 8)))
        assert repair_unicode(text) == by_ftfy(text)
    for words in ("头痛怎么办“好”…", "naïve café 5 €", "Привет, мир — «да»", "x ≥ 5 ± 2°"):
        for encoding in ("latin-1", "cp1252", "cp1251", "gb18030"):
            for text in (words, words.encode().decode(encoding, "replace"), f"a\n{words}\x1b[31m"):
                assert repair_unicode(text) == by_ftfy(text)


@given(st.text() | st.text(alphabet=MOJIBAKE))
def test_repair_unicode_equals_ftfy_on_any_text(text):
    assert repair_unicode(text) == by_ftfy(text)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_repair_unicode_equals_ftfy_on_real_texts():
    for name in ("dolly_train.json", "alpaca_zh_demo.json", "identity.json"):
        for row in json.loads((REAL / "general" / name).read_text(encoding="utf-8"))[:400]:
            text = "\n".join(row.values())[:1000]
            assert repair_unicode(text) == by_ftfy(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ã is a letter",
        "The letters Ã and Â: “Ã”, «Ã», Ã",
        "Â is a letter.\nâ is one, too",
        "a Ã b",
        "SÃO PAULO, NÃO, CORAÇÃO, A IRMÃ é",
        "“IRMÔ, “ALEMÔ – IRMÃ — IRMÃ–",
        "CAFÉ® and “CAFÉ”, L’ÉTÉ»",
        "São, pâté, façade, Ăn uống, Vân Âm, Đà Nẵng, é à Â",
        "ÂGE, NIÑO, MÜNCHEN, Ångström, ŁÓDŹ",
        "\x1b[0Ã is a letter",
    ],
)
def test_a_letter_that_may_be_one_is_no_evidence_of_a_wrong_encoding(text):
    assert repair_unicode(text) == text
    assert not is_garbled(text)


@pytest.mark.parametrize(
    ("garbled", "mended"),
    [
        ("voilÃ  monsieur", "voilà monsieur"),
        ("Ã\xa0 Paris", "à Paris"),
        ("cafÃ©", "café"),
        ("Ã is a letter in fianÃ©e", "à is a letter in fianée"),
        ("fianÃ©e\nÃ Paris", "fianée\nà Paris"),
        ("SÃ£o e CORAÃ‡ÃƒO", "São e CORAÇÃO"),
        ("Viá»‡t Nam, Äƒn", "Việt Nam, ăn"),
        ("Ã®le, maÃ®tre", "île, maître"),
        ("\x1b[31m Ã is a letter", " Ã is a letter"),
    ],
)
def test_real_evidence_anywhere_in_a_text_mends_all_of_it(garbled, mended):
    assert repair_unicode(garbled) == mended


def test_a_text_in_the_wrong_encoding_is_garbled():
    assert is_garbled("å¤´ç—›")
    assert not is_garbled("头痛“好”… café x ≥ 5")
    assert not is_garbled("\x1b[31mred")


@given(st.text())
def test_repair_never_crashes_and_leaves_no_control_characters(text):
    section = CleanSection(fullwidth_punctuation=True)
    repaired, names = repair(text, section, about_markup=False)
    assert (repaired != text) <= bool(names)
    assert "\r" not in repaired
    assert "\x00" not in repaired


PIECES = (
    "<p> </p> <b> </b> <br> <i> <td> </td> <li> </a> <x> </x> <sup> 9 <pre> </pre> < "
    "&lt; &gt; &amp; &nbsp; &#8203; lt; &eacute; <!-- --> <script> </script> <html> ` `` ``` ~~~ "
    "。 ， ！ ？ … . .. ! ??? ~ ～ （ ） ( ) , : | \" ' { } 高 血 a b 1 ２ Ａ ． å¤´ç—› Ã© "
    "<s> </s> <|im_end|> <|im_start|> user [INST]"
).split(" ")
SPACED = [
    "\n",
    " ",
    "  ",
    "\t",
    "\u3000",
    "\xa0",
    "\u200b",
    "\u200d",
    "\u202e",
    "א",
    "\r",
    "\x0c",
    "<a href=x>",
    "### 响应:",
]


@given(st.lists(st.sampled_from(PIECES + SPACED)))
def test_repairing_twice_is_repairing_once(pieces):
    text = "".join(pieces)
    for section in (DEFAULTS, CleanSection(fullwidth_punctuation=True)):
        once = repair(text, section, about_markup=False)[0]
        assert repair(once, section, about_markup=False) == (once, [])
    for function in REPAIRS.values():
        assert function(function(text)) == function(text)


@given(
    st.text(alphabet="头痛发热。，！？…“”（）《》、；：abcXYZ019.,:;!?()-+=/\\'*_#% ").map(
        str.split
    )
)
def test_words_and_single_marks_come_out_as_they_went_in(words):
    text = " ".join(
        word
        for word in words
        if not any(a == b for a, b in itertools.pairwise(word)) and "#" not in word
    )
    assert repair(text, DEFAULTS, about_markup=False) == (text, [])


@pytest.mark.parametrize(
    "text", ["<b" * 9000, "`a``" * 9000, "</p>" * 9000, "\u3000" * 40000 + "x", "&" + "amp;" * 9000]
)
def test_a_hostile_text_takes_no_longer_than_its_length_warrants(text):
    repair(text, CleanSection(fullwidth_punctuation=True), about_markup=False)
