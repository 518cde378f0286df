"""What must come out of each of many texts under the default recipe: a table to read and extend."""

import pytest

from burnish.cleaning.text import repair
from burnish.recipe import CleanSection

KEPT = [
    "HBV-DNA<10^3拷贝/ml，ALT>40U/L",
    "血压<140/90，BMI>28",
    "血糖 3.9<x<6.1，p<0.05 且 r>0.3",
    "白细胞<4×10^9/L，体温≥38.5℃",
    "年龄≥65岁，eGFR<60 mL/min/1.73m²",
    "if a<b and c>d: print(a<b>c)",
    "i<p && p>0",
    "for (i=0; i<n; i++) x<i>=0",
    "Vec<String> 和 Map<String, List<Integer>>",
    "std::map<a, b> x; std::vector<p> v;",
    "List<li> items = new ArrayList<>();",
    "template<class T> void f(T* a)",
    "#include <iostream>\n#include <vector>",
    "int *q = &sum; return &copy;",
    "x = a & b; y = a && b;",
    "cat <a >b && sort <b >c",
    "echo hi >out.txt 2>&1 <in.txt",
    "a <b >c",
    "SELECT * FROM <table> WHERE a<>b AND c<=d",
    "SELECT a, b FROM t WHERE a < 3 AND b > 5;",
    "^(?<name>\\w+)<[^>]*>$",
    "(?<=a)b(?=c)(?<!d)",
    '{"a": "<b>", "c": [1, 2]}',
    '{"html": "<p>你好</p>"}',
    "x <- c(1, 2); y |> f()",
    "a -> b <- c <-> d => e <= f",
    'git commit -m "<type>: <subject>"',
    "usage: tool <section> [<form>]",
    "联系 <me@example.com> 或 <https://example.com/a?b=1&c=2>",
    "?a=1&copy=2&lt=3 和 AT&T、R&D",
    "$x<y$ 且 $y>z$，\\(a<b>c\\)",
    "\\frac{a}{b} & c \\\\ d & e",
    "<math><mi>x</mi><mo>&lt;</mo><mn>3</mn></math>",
    "<note><to>王</to><b>急</b></note>",
    '<?xml version="1.0"?><p>一</p>',
    "<!DOCTYPE html><html><body><p>x</p></body></html>",
    "<姓名>张三</姓名><br>",
    "<button>确定</button><br>",
    '<Card><div className="x">a</div></Card>',
    "<img>photo_1.jpg</img>描述图片",
    "我们在<p>标记中显示名称",
    "a<p",
    "<a href=x",
    "输入 &lt;br&gt; 换行",
    "&copyright; &nosuch; &#0; &#xD800;",
    "# 标题\n\n- a\n  - b\n    - c\n\n> 引用\n\n1. d\n\n   e",
    "**粗** *斜* ~~删~~ [链接](http://a.b/c)",
    "!!! note\n    x\n\n??? tip\n    y",
    "---\n\n***\n\n___",
    "| a   | b |\n|-----|---|\n| 1   | 2 |",
    "第一章 ........ 3\n第二章........ 12",
    "ls img??? && echo !!!",
    "等等...好",
    "真的！！好！？吗？！",
    "Wow!!! really???",
    "姓名：______ 电话：——",
    "👩\u200d⚕\ufe0f 👨\u200d👩\u200d👧 1\ufe0f⃣ 🇨🇳 ❤\ufe0f",
    "می\u200cخواهم क्\u200dष",
    "שלום \u200f(א)",
    "患者CT示：WBC 12.5×10⁹/L，予Aspirin 100mg qd。",
    "café naïve façade, 5€, ½ ± 2°",
    "a\tb\tc\n1\t2\t3",
    "### 输入:\n一个整数\n### 输出:\n一个整数",
    "用 <|im_end|> 结束一轮",
    "`<s>`",
]
"""Comparisons, mathematics, code, XML, transcripts, Markdown, emoji: not to be touched."""

REPAIRED = [
    ("<i>E. coli</i> p<0.05 and q>0.1", "E. coli p<0.05 and q>0.1"),
    ("10<sup>9</sup>/L，H<sub>2</sub>O", "10^9/L，H2O"),
    (
        "<user>: 你好 <bot>: 您好，请问哪里不舒服？<user>: 头痛<br>发热",
        "<user>: 你好 <bot>: 您好，请问哪里不舒服？<user>: 头痛\n发热",
    ),
    ("<think>先想 a<b</think>\n<p>答案</p>", "<think>先想 a<b</think>\n\n答案"),
    ("<p>段一<p>段二", "段一\n段二"),
    ("段一。<p>段二", "段一。\n段二"),
    ("好</p>再见</div>", "好\n再见"),
    ("<p>多喝水，<b>少盐</b>。</p><p>再见</p>", "多喝水，少盐。\n\n再见"),
    ("<ul><li>一</li><li>二</li></ul>", "一\n二"),
    ("<ol>\n  <li>一</li>\n  <li>二</li>\n</ol>", "一\n二"),
    (
        "<table><tr><td>甲</td><td>1</td></tr><tr><td>乙</td><td>2</td></tr></table>",
        "甲\n1\n\n乙\n2",
    ),
    ("| 名 | 值 |\n|---|---|\n| a<br>b | 1 |", "| 名 | 值 |\n|---|---|\n| a b | 1 |"),
    ("<b>用 `a<b` 判断</b>", "用 `a<b` 判断"),
    ("<p>看\n```html\n<p>x</p>\n```\n完</p>", "看\n```html\n<p>x</p>\n```\n完"),
    (
        "<pre><code>if a&lt;b:\n  x</code></pre><p>好</p>",
        "<pre><code>if a&lt;b:\n  x</code></pre>\n好",
    ),
    ("`&lt;` 是 &lt;", "`&lt;` 是 <"),
    ("一<br/>二<BR>三<hr>四", "一\n二\n三\n四"),
    ("<script>alert('<b>')</script>好<!-- <p> --><style>p{}</style>", "好"),
    ("&lt;140 &amp; &gt;90&nbsp;mmHg", "<140 & >90 mmHg"),
    ("&amp;nbsp;&amp;lt;5", "<5"),
    ("&lt;p&gt;多喝水&lt;/p&gt;", "多喝水"),
    ("&#20320;&#x597D;&hellip;", "你好…"),
    ('<font color="red">急</font><o:p></o:p>', "急"),
    ("<span style='x'>a</span><span>b</span>", "ab"),
    ("等等......好", "等等……好"),
    ("疼。。。。很疼！！！怎么办？？？？谢谢~~~~", "疼。很疼！怎么办？谢谢~"),
    ("好……真好……………", "好……真好……"),
    ("什么???!!! 是的", "什么?!!! 是的"),
    ("你好，，我头痛。。", "你好，我头痛。"),
    (
        "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f ok\U000e0061\U000e0062",
        "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f ok",
    ),
    ("a\u200e \u202eb\u202c", "a b"),
    ("零\u200b宽\ufeff字\u2060符\u200d", "零宽字符"),
    ("Ｂ超：１２．５ｃｍ，１０：３０", "B超：12.5cm，10：30"),
    ("fianÃ©e â€œhiâ€\x9d", "fianée “hi”"),
    (
        "def f():\n    return 1  # one\n\n\n\n\nprint(f())",
        "def f():\n    return 1  # one\n\nprint(f())",
    ),
    ("\u3000\u3000首行缩进\n\u3000\u3000次行", "首行缩进\n次行"),
    ("你好<|im_end|>\n<|im_start|>user", "你好"),
    ("<|im_start|>assistant\n好的<|im_end|>", "好的"),
    ("<|start_header_id|>assistant<|end_header_id|>\n\n好<|eot_id|>", "好"),
    ("<start_of_turn>model\n好<end_of_turn>", "好"),
    ("<｜begin▁of▁sentence｜>好<｜end▁of▁sentence｜>", "好"),
    ("[gMASK]<sop><|user|>\n好", "好"),
    ("[INST] <<SYS>> 你是医生 <</SYS>> 头痛 [/INST]", "你是医生 <</SYS>> 头痛"),
    ("### 响应:\n多喝水\n\n### 指令:", "多喝水"),
    ("### Response: ok\n### Input:", "ok"),
]
"""Dirt, and what is left of it."""


@pytest.mark.parametrize("text", KEPT)
def test_a_clean_text_comes_out_as_it_went_in(text):
    assert repair(text, CleanSection(), about_markup=False) == (text, [])


@pytest.mark.parametrize("dirty, clean", REPAIRED)
def test_a_dirty_text_comes_out_clean_and_stays_so(dirty, clean):
    assert repair(dirty, CleanSection(), about_markup=False)[0] == clean
    assert repair(clean, CleanSection(), about_markup=False) == (clean, [])


def test_there_are_enough_probes():
    assert len(KEPT) + len(REPAIRED) >= 100
