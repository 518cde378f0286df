import time

import pytest

from burnish.cleaning.markup import (
    asks_about_markup,
    has_entities,
    has_tags,
    is_about_markup,
    strip_html,
)
from burnish.conversation import Conversation, Message


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("<p>一</p><p>二</p>", "\n一\n\n二\n"),
        ("<ul>\n <li>一</li>\n <li>二</li>\n</ul>", "\n\n 一\n 二\n\n"),
        ("<b>一</b><i>二", "一<i>二"),
        ("</b>一<b>", "</b>一<b>"),
        ("一</p>二</td>", "一\n二\n"),
        ("<p>一<p>二", "\n一\n二"),
        ("见<p>一", "见<p>一"),
        ("a<li>b<li>", "a<li>b<li>"),
        ("x<p y=1>", "x\n"),
        ("| a<br>b |", "| a b |"),
        ("a | b<br>c", "a | b c"),
        ("a<br>b | c<br>d\ne<br>f", "a\nb | c d\ne\nf"),
        (" |a<br>b\nc|d<br>e", " |a b\nc|d\ne"),
        ("m<sup>2</sup><sup>th</sup>", "m^2th"),
        ("<!-- 一 -->二<!-- 三", "二<!-- 三"),
        ("<script>a</script>b<script>c", "b<script>c"),
        ("&lt;5 &amp;amp; &copy;", "<5 & ©"),
        ("p = &sum; p = &lt;", "p = &sum; p = <"),
        ("&notit; &#0; &#xd800; &#9999999;", "&notit; &#0; &#xd800; &#9999999;"),
        ("&lt;b&gt; &lt;p&gt;", "<b> <p>"),
        ("看 &lt;br&gt;", "看 &lt;br&gt;"),
        ("&lt;div&gt;&amp;lt;5&lt;/div&gt;", "\n<5\n"),
        ("&lt;a&gt;&lt;q&gt;x&lt;/q&gt;&lt;/a&gt;", "<a><q>x</q></a>"),
        ("<b>`<b>`</b> &lt;", "`<b>` <"),
    ],
)
def test_known_tags_and_entities_go(text, stripped):
    assert strip_html(text) == stripped


@pytest.mark.parametrize(
    "text",
    [
        "<note><b>x</b></note>",
        "<ns:a x='1'>&lt;<b>x</b></ns:a>",
        "<?xml version='1.0'?><b>x</b>",
        "<HTML><b>x</b>",
        '{"a": "<b>x</b>"}',
        '[{"a": "&lt;"}]',
    ],
)
def test_xml_documents_and_json_stay(text):
    assert strip_html(text) == text
    assert not has_tags(text)


@pytest.mark.parametrize(
    "line", ["a|b" + "c<br>" * 20_000, "<td>a</td>" * 10_000 + " | ", "a |<br>" * 15_000]
)
def test_a_long_line_takes_time_in_proportion_to_its_length(line):
    started = time.process_time()
    strip_html(line)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("name", ["think", "answer", "tool_call", "s"])
def test_marks_of_a_chat_format_make_no_xml(name):
    assert strip_html(f"<{name}>a</{name}><br>") == f"<{name}>a</{name}>\n"


def test_tags_and_entities_are_found_where_they_would_go():
    assert has_tags("<b>x</b>")
    assert has_tags("<!-- x -->")
    assert not has_tags("a<b and c>d `<br>`")
    assert has_entities("&nbsp;")
    assert not has_entities("`&nbsp;` &nosuch; ?a=1&copy=2;")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("网页里怎么写粗体？", True),
        ("用HTML5写表格", True),
        ("Write C++ code", True),
        ("codeine 的副作用", False),
        ("prescription reaction?", False),
        ("头痛怎么办？", False),
    ],
)
def test_a_question_about_markup_is_known_by_whole_words(question, expected):
    assert is_about_markup(question) is expected


def test_only_what_a_user_says_asks_about_markup():
    about = Conversation(
        (Message("user", "How do I write HTML?"), Message("assistant", "So.")), "x:1"
    )
    other = Conversation((Message("user", "Hello"), Message("assistant", "HTML.")), "x:2")
    assert asks_about_markup(about)
    assert not asks_about_markup(other)
