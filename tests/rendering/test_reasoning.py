"""Blocks of reasoning where prompts and conversations disagree about them."""

from __future__ import annotations

import pytest

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.rendering import render_example, render_prompt
from burnish.rendering.reasoning import Block, answer_behind, block_at_end, loses_reasoning
from tests.rendering.shapes import (
    STRIPS_REASONING,
    spoken,
    strips_reasoning,
    talk,
    tokenizer_with,
    tool_talk,
    with_reasoning,
)

R1 = STRIPS_REASONING.replace("{{ '<｜Assistant｜>' }}", "{{ '<｜Assistant｜><think>\n' }}")
"""DeepSeek-R1's: prompts open the block, conversations have none."""

GLM_47 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{% if m.role == 'assistant' %}"
    "{{ '<think>' + m.reasoning_content if m.reasoning_content else '' }}{{ '</think>' }}"
    "{% endif %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>' }}{% endif %}"
)
"""The block is closed without line breaks, and an empty one is only closed."""

CLOSES = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}"
)
"""Prompts hold an empty block, conversations none."""

END = "<｜end▁of▁sentence｜>"


def thinking(said="b", thought="so"):
    answer = Message("assistant", said, reasoning_content=thought)
    return Conversation((Message("user", "a"), answer), "x:1")


def learned(conversation, tokenizer):
    """What is learned of a conversation, which must follow the prompt of a server."""
    example = render_example(conversation, tokenizer, 500)
    prompt = render_prompt(conversation.question, tokenizer, tools=conversation.tools)
    assert example.input_ids[: len(prompt)] == prompt
    assert all(label == -100 for label in example.labels[: len(prompt)])
    (text,) = spoken(example, tokenizer)
    return text


@pytest.mark.parametrize(
    "prompt, block",
    [
        ("a<think>\n", Block(1, "<think>", is_open=True)),
        ("a\n<think>", Block(2, "<think>", is_open=True)),
        ("<think>x</think>a<think>\n\n</think>\n\n", Block(17, "<think>", is_open=False)),
        ("a</think>", Block(1, "<think>", is_open=False)),
        ("a<|channel>thought\n<channel|>", Block(1, "<|channel>thought", is_open=False)),
        ("a[THINK]", Block(1, "[THINK]", is_open=True)),
    ],
)
def test_the_block_at_the_end_of_a_prompt_is_found(prompt, block):
    assert block_at_end(prompt) == block


@pytest.mark.parametrize("prompt", ["", "a", "<think> a", "</think>a\n", "a<judge>\n"])
def test_a_block_that_does_not_end_a_prompt_is_none(prompt):
    assert block_at_end(prompt) is None


def test_an_answer_without_reasoning_closes_the_block_that_its_prompt_opens():
    assert learned(talk("a", "b"), strips_reasoning(R1)) == f"\n</think>\n\nb{END}"


def test_reasoning_apart_goes_on_from_the_prompt_and_is_closed():
    assert learned(thinking(), strips_reasoning(R1)) == f"so\n</think>\n\nb{END}"


@pytest.mark.parametrize("said", ["<think>\nso\n</think>\n\nb", "so\n</think>\n\nb"])
def test_reasoning_within_an_answer_is_learned_as_the_row_has_it(said):
    assert learned(talk("a", said), strips_reasoning(R1)) == f"so\n</think>\n\nb{END}"


def test_reasoning_that_the_template_strips_is_learned_where_the_model_opens_it_itself():
    answer = "<think>so</think>b"
    assert learned(talk("a", answer), strips_reasoning()) == f"<think>so</think>b{END}"


def test_earlier_answers_stand_in_the_prompt_as_a_server_writes_them():
    tokenizer = strips_reasoning(R1)
    conversation = talk("a", "<think>so</think>b", "c", "d").trained_on("last")
    example = render_example(conversation, tokenizer, 500)
    assert tokenizer.decode(example.input_ids) == (
        "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜>b<｜end▁of▁sentence｜>"
        f"<｜User｜>c<｜Assistant｜><think>\n\n</think>\n\nd{END}"
    )


def test_what_closes_a_block_is_what_the_template_writes_behind_reasoning():
    tokenizer = tokenizer_with(
        GLM_47, special=["<|user|>", "<|assistant|>"], plain=["<think>", "</think>"]
    )
    assert learned(talk("a", "b"), tokenizer) == "</think>b"
    assert learned(thinking(), tokenizer) == "so</think>b"


def test_behind_a_prompt_that_closes_the_block_stands_the_answer_alone():
    tokenizer = with_reasoning(CLOSES)
    assert learned(talk("a", "b"), tokenizer) == "b<|im_end|>"
    for conversation in (thinking(), talk("a", "<think>so</think>b")):
        with pytest.raises(DataError, match="does not begin the whole"):
            render_example(conversation, tokenizer, 500)


def test_a_call_closes_the_block_too():
    template = (
        "{{ (tools | tojson) if tools }}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        "{% for call in m.tool_calls or [] %}{{ '<call>' + (call.function | tojson) }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    )
    whole = tool_talk()
    called = Conversation(whole.messages[:2], "x:1", tools=whole.tools)
    assert learned(called, with_reasoning(template)) == (
        '\n</think>\n\n<call>{"name": "weather", "arguments": {"city": "罗马"}}<|im_end|>'
    )


@pytest.mark.parametrize("said", ["", "  \n"])
def test_an_answer_of_nothing_is_refused(said):
    with pytest.raises(DataError, match="does not begin the whole"):
        render_example(talk("a", said), strips_reasoning(R1), 500)


def test_generation_marks_that_leave_such_an_answer_out_refuse_it():
    marked = R1.replace(
        "{{ '<｜User｜>' + m['content'] }}",
        "{% generation %}{{ '<｜User｜>' + m['content'] }}{% endgeneration %}",
    )
    with pytest.raises(DataError, match="marks leave out the answer 'b'"):
        render_example(talk("a", "b"), strips_reasoning(marked), 500)


def test_another_difference_than_the_block_is_not_made_up_for():
    tokenizer = strips_reasoning(R1)
    message = Message("assistant", "b")
    assert answer_behind("Q:a A:<think>\n", "Q:a A:b.", message, tokenizer) == (
        "\n</think>\n\nb.",
        message,
    )
    for prompt, whole in [
        ("Q:a A:<think>\n", "Q:b A:b."),  # another question
        ("Q:a A:<think>\n", "Q:a A:c b."),  # something before the answer
        ("Q:a A:", "Q:a A:b."),  # no block
    ]:
        assert answer_behind(prompt, whole, message, tokenizer) is None


def test_a_block_counts_as_lost_only_where_its_end_is_not_written():
    assert loses_reasoning(Message("assistant", "<think>so</think>b"), "b")
    assert not loses_reasoning(Message("assistant", "<think>so</think>b"), "so</think>b")
    assert not loses_reasoning(Message("assistant", "b"), "b")


def test_marks_of_reasoning_that_are_special_tokens_stay_tokens_in_answers_alone():
    tokenizer = tokenizer_with(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        special=["<think>", "</think>"],
    )
    conversation = talk("a", "<think>so</think>b")
    example = render_example(conversation, tokenizer, 500)
    messages = [m.as_dict() for m in conversation.messages]
    assert example.input_ids == tokenizer.apply_chat_template(messages, return_dict=False)
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert example.labels.count(think) == 1
    asked = render_example(talk("<think>", "b"), tokenizer, 500)
    assert think not in asked.input_ids
