from burnish.templates.literals import (
    literals,
    looked_for,
    markers,
    open_edges,
    open_middles,
    speakers,
)


def test_literals_are_the_texts_that_a_template_writes_as_they_stand():
    template = "<s>{% for m in messages %}{{ '[INST] ' + m.content }}{# no #}{% endfor %}\tend"
    assert literals(template) == ["<s>", "[INST] ", "\tend"]


def test_a_template_that_is_no_jinja_has_no_literals():
    assert literals("{{ 'open") == []


def test_markers_are_what_looks_like_a_boundary():
    texts = [
        "<|user|>\n",
        "a [INST] <<SYS>>\nb<</SYS>>[/INST]",
        "### 响应:\n",
        "<｜User｜>",
        "## T:",
    ]
    assert markers(texts) == {
        "<|user|>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "### 响应:",
        "<｜User｜>",
        "## T:",
    }


def test_ordinary_text_holds_no_markers():
    assert markers(["You are a helpful assistant. a < b > c, x[0], [a], # Title: 1"]) == set()


def test_a_speaker_is_the_word_before_a_message():
    assert speakers("</s>\nUSER: ") == {"USER:"}
    assert speakers("用户：") == {"用户："}
    assert speakers("Today's Date: 1 May\n\n") == set()
    assert speakers("<|im_start|>user\n") == set()


def test_what_a_template_searches_for_is_found():
    template = (
        "{% if '</think>' in content %}{{ content.split(\"</think>\")[-1] }}{% endif %}"
        "{% if not (m.startswith('<tool_response>')) %}{% if '<x>' not in y %}"
        "{% for m in messages %}"
    )
    assert looked_for(template) == {"</think>", "<tool_response>", "<x>"}


def test_edges_are_the_parts_of_a_name_that_the_template_completes():
    ends, begins = open_edges(["<|e|>"], ["|>\n", "x<|"])
    assert ends == {"<|e"}
    assert begins == {"e|>"}
    assert open_edges(["<|e|>"], ["<|e|>", "a"]) == (set(), set())


def test_middles_are_what_the_text_around_a_message_completes():
    assert open_middles(["<|e|>"], ["x<|", "|>\n"]) == {"e"}
    assert open_middles(["<|e|>"], ["x<|", ">"]) == {"e|"}
    assert open_middles(["<|e|>"], ["x", "|>"]) == set()
