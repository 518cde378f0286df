"""Blanks within and around lines."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.blanks import squeeze_spaces


@pytest.mark.parametrize(
    "line",
    [
        "x  = 1   # c",
        "self.x   = 1",
        "n: int   = 3",
        "total +=   f(x)",
        "a = f(b,   c)",
        "MAX_SIZE = [1,   2]",
        "return 1  # one",
        "x = y  # c",
        "pass  # nothing to do",
        ".note   {",
        "color:   red;",
        "f(x);  // why",
        "f(x);  /* why */",
        "print(x)  # 打印",
        "if (a  > b) {",
        "for (i = 0;  i < n;  i++) {",
        "while x  < f(y):",
        "} else  {",
        "static int   count;",
        "int   x;",
        "print(a,   b)",
        "foo.bar(1,  2);",
        '"key":   1,',
        "SELECT a,  b FROM t",
        "#define   N 3",
        "| a   | b |",
    ],
)
def test_a_line_of_code_keeps_its_blanks(line):
    assert squeeze_spaces(line) == line
    assert squeeze_spaces(f"看：\n{line}\n好") == f"看：\n{line}\n好"


@pytest.mark.parametrize(
    "table",
    [
        "Name    Age   City\nAlice   30    Paris\nBob     4     Rome",
        "姓名    年龄\n张三    30\n欧阳锋  4",
        "温度    38.5\n血压    120",
        "apple      5\nbanana    12",
        "price     $1.50\nmore     $12.00",
        "x   = 1\nyy  = 22",
        "key:    1\nother:  2",
        "a\t\tc\n1\t\t3",
        "a  b  c\n1  2  3",
    ],
)
def test_columns_that_stand_below_one_another_keep_their_blanks(table):
    assert squeeze_spaces(table) == table


@pytest.mark.parametrize(
    ("text", "squeezed"),
    [
        ("头痛  发热   怎么办", "头痛 发热 怎么办"),
        ("Take two.  Then rest.  Good.", "Take two. Then rest. Good."),
        (
            "Take two.  Then rest.  Good.\nTake one.  Then rest.  Good.",
            "Take two. Then rest. Good.\nTake one. Then rest. Good.",
        ),
        ("医生：您好  请问\n患者：头痛  两天", "医生：您好 请问\n患者：头痛 两天"),
        ("发热  3天\n咳嗽  5天", "发热 3天\n咳嗽 5天"),
        ("WBC=12.5  N=80%", "WBC=12.5 N=80%"),
        ("BMI  = 22", "BMI = 22"),
        ("for  example: this", "for example: this"),
        ("return to the  hospital", "return to the hospital"),
        ("Fever is common  -- see below", "Fever is common -- see below"),
        ("Part  # : a key part", "Part # : a key part"),
        ("Step one  # note", "Step one # note"),
        ("as asked  Use {name}: {state}", "as asked Use {name}: {state}"),
        ("今天真好  #开心", "今天真好 #开心"),
        ("如果  (a > b) {", "如果 (a > b) {"),
        ("if you  have fever, come.", "if you have fever, come."),
        ("a\t\tb", "a b"),
        ("一\u3000二", "一 二"),
        ("|a\u3000b|", "|a b|"),
        ("a   b\n\na   b", "a b\n\na b"),
    ],
)
def test_natural_text_is_squeezed(text, squeezed):
    assert squeeze_spaces(text) == squeezed


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        ("    def f():\n        return 1\n\nSo.", "    def f():\n        return 1\n\nSo."),
        ("\n \n    def f():\n        return 1\nSo.\n \n", "    def f():\n        return 1\nSo."),
        ("    def f():\n        return 1", "def f():\n    return 1"),
        ("        return 1\n    else:\nSo.", "        return 1\n    else:\nSo."),
        ("\tif x:\n\t\ty\nz", "\tif x:\n\t\ty\nz"),
        ("  一句话。\n第二句。", "一句话。\n第二句。"),
        ("  一句话。\n\n  第二句。\n三", "一句话。\n\n  第二句。\n三"),
        ("  \u3000首行\n  \u3000次行", "首行\n次行"),
        ("  a   b\nccc   d", "a b\nccc d"),
        ("x  \n", "x"),
        (" \n\t\n", ""),
    ],
)
def test_only_empty_lines_go_where_the_next_line_is_indented_too(text, trimmed):
    assert squeeze_spaces(text) == trimmed


PIECES = ["  ", "   ", " ", "\t", "\n", "\u3000", "\xa0", "a", "bb", "高", "= ", "1", "12", ". "]
PIECES += ["  # ", "if ", "(", "):", ";", "|", "`x`", "```"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_squeezing_twice_is_squeezing_once_and_only_blanks_go(text):
    once = squeeze_spaces(text)
    assert squeeze_spaces(once) == once
    assert "".join(once.split()) == "".join(text.split())
    assert once[:1] != "\n"
    assert once == once.rstrip()


@pytest.mark.parametrize(
    "text",
    [
        "if  " + "(" * 100_000,
        ("if  " + "(" * 290 + "\n") * 300,
        ("a  " * 99 + "\n") * 300,
        "a  # " * 20_000,
        " " * 100_000 + "x",
        ("高  " * 99 + "\n") * 300,
    ],
)
def test_a_hostile_text_takes_no_longer_than_its_length_warrants(text):
    started = time.process_time()
    squeeze_spaces(text)
    assert time.process_time() - started < 2
