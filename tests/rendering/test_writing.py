"""What the chat template writes."""

from __future__ import annotations

import json

import pytest

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.rendering import joined_input, render_example, render_prompt
from burnish.rendering.writing import write_generated, write_text
from burnish.templates.plain import PLAIN_TEMPLATES
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import of_shape, talk


def test_an_instruction_and_its_input_stand_apart_in_the_plain_template():
    tokenizer = byte_tokenizer(PLAIN_TEMPLATES["plain_zh"])
    ids = render_prompt([Message("user", "翻译", "hello")], tokenizer)
    assert tokenizer.decode(ids) == "### 指令:\n翻译\n\n### 输入:\nhello\n\n### 响应:\n"
    ids = render_prompt([Message("user", "翻译")], tokenizer)
    assert tokenizer.decode(ids) == "### 指令:\n翻译\n\n### 响应:\n"


def test_the_english_plain_template_names_its_parts_in_english():
    tokenizer = byte_tokenizer(PLAIN_TEMPLATES["plain_en"])
    conversation = (Message("system", "S"), Message("user", "Do", "it"), Message("assistant", "OK"))
    example = render_example(Conversation(conversation, "x:1"), tokenizer, 500)
    assert tokenizer.decode(example.input_ids) == (
        "S\n\n### Instruction:\nDo\n\n### Input:\nit\n\n### Response:\nOK<|im_end|>"
    )


def test_a_template_that_knows_no_input_gets_it_behind_a_blank_line(tokenizer):
    ids = render_prompt([Message("user", "Translate", "hello")], tokenizer)
    assert "user\nTranslate\n\nhello<|im_end|>" in tokenizer.decode(ids)


def test_the_plain_template_refuses_a_role_that_it_has_no_place_for():
    tokenizer = byte_tokenizer(PLAIN_TEMPLATES["plain_zh"])
    with pytest.raises(DataError, match="no place for the role tool"):
        render_prompt([Message("user", "a"), Message("tool", "b")], tokenizer)


def test_a_template_that_refuses_the_roles_says_so_and_names_the_row():
    system = (Message("system", "s"), *talk("a", "b").messages)
    with pytest.raises(DataError) as caught:
        render_example(Conversation(system, "raw.csv:7"), of_shape("gemma"), 500)
    assert caught.value.where == "raw.csv:7"
    assert "refuses these messages (system, user" in caught.value.problem
    assert "roles must alternate" in caught.value.problem
    assert "Remove the system prompt" in caught.value.remedy


def test_generation_marks_are_spans_of_the_text(tokenizer):
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' }}{% if m['role'] == 'assistant' %}"
        "{%- generation %}{{ m['content'] }}{%- endgeneration %}{% else %}{{ m['content'] }}"
        "{% endif %}{{ '\n' }}{% endfor %}"
    )
    turns = talk("a", "one", "b", "two").messages
    text = write_text(turns, byte_tokenizer(template))
    spans = write_generated(turns, byte_tokenizer(template))
    assert text == "user: a\nassistant: one\nuser: b\nassistant: two\n"
    assert spans == [(19, 22), (42, 45)]
    assert [text[start:stop] for start, stop in spans] == ["one", "two"]
    assert write_generated(turns, tokenizer) is None


def test_a_template_sees_reasoning_but_not_whether_a_message_is_learned():
    template = "{{ messages[0] | tojson }}"
    message = Message("assistant", "a", reasoning_content="b", train=False)
    seen = json.loads(write_text([message], byte_tokenizer(template)))
    assert seen.pop("thinking", "b") == "b"
    assert seen == {"role": "assistant", "content": "a", "reasoning_content": "b"}


def test_an_input_is_joined_for_templates_that_know_none():
    assert joined_input(Message("user", "a", "b")) == "a\n\nb"
    assert joined_input(Message("user", "a")) == "a"


def test_a_template_sees_the_ids_of_calls_and_whose_result_a_message_is():
    call = {"name": "weather", "arguments": {"city": "罗马"}}
    turns = (
        Message("assistant", "", tool_calls=(call,), call_ids=("c00000001",)),
        Message("tool", "21", name="weather", tool_call_id="c00000001"),
    )
    assert json.loads(write_text(turns, byte_tokenizer("{{ messages | tojson }}"))) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c00000001", "type": "function", "function": call}],
        },
        {"role": "tool", "content": "21", "name": "weather", "tool_call_id": "c00000001"},
    ]


def test_messages_come_in_parts_where_a_template_writes_only_those():
    template = (
        "{% for m in messages %}{{ m.role + ': ' }}{% for part in m.content %}"
        "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '\n' }}{% endfor %}"
    )
    turns = talk("a", "b").messages
    assert write_text(turns, byte_tokenizer(template)) == "user: a\nassistant: b\n"
    either = template.replace(
        "{% for part", "{% if m.content is string %}{{ '=' + m.content }}{% else %}{% for part"
    ).replace("{% endfor %}{{", "{% endfor %}{% endif %}{{")
    assert write_text(turns, byte_tokenizer(either)) == "user: =a\nassistant: =b\n"
