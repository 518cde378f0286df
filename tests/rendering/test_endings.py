"""The tokens that end an answer."""

from __future__ import annotations

import pytest

from burnish.rendering import render_example, stop_token_ids
from burnish.rendering.endings import Ends, ends_of
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import (
    END,
    ENDS_CALLS_OTHERWISE,
    GLM_4,
    SHAPES,
    WITH_TOOLS,
    command_r,
    glm_4,
    of_shape,
    spoken,
    talk,
    tokenizer_with,
)

STOPS = {
    "chatml": ["<|im_end|>"],
    "llama_3": ["<|eot_id|>", "<eos>"],
    "gemma": ["<end_of_turn>", "<eos>"],
    "llama_2": ["</s>"],
    "closed_with_eos": ["<|end|>", "<|endoftext|>"],
    "thinks_last": ["<|im_end|>"],
    "plain_zh": ["<|im_end|>"],
    "plain_en": ["<|im_end|>"],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_generation_stops_at_the_templates_end_of_turn_and_at_eos(shape):
    tokenizer = of_shape(shape)
    assert tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer)) == STOPS[shape]


def test_a_template_without_an_end_token_stops_at_eos_alone():
    tokenizer = byte_tokenizer(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert stop_token_ids(tokenizer) == [END]
    example = render_example(talk("a", "one", "b", "two"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["one\n", "two\n"]


def test_of_tokens_that_follow_one_another_the_last_of_those_behind_every_answer_ends_it():
    tokenizer = command_r()
    assert tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer)) == ["<|END|>"]
    example = render_example(talk("a", "one", "b", "two"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["one<|SAID|><|END|>", "two<|SAID|><|END|>"]


def test_what_opens_the_users_turn_stops_an_answer_that_nothing_else_ends():
    tokenizer = glm_4()
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert names == ["<|user|>", "<|endoftext|>"]
    ends = ends_of(tokenizer)
    assert (ends.early, ends.last, ends.within) == (None, None, None)


def test_generation_stops_at_the_token_behind_a_call():
    tokenizer = tokenizer_with(ENDS_CALLS_OTHERWISE, special=["<|eom|>"])
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert names == ["<|im_end|>", "<|eom|>"]
    assert stop_token_ids(tokenizer_with(WITH_TOOLS)) == [END]


def test_a_token_that_stands_behind_each_of_two_calls_is_no_end():
    closes_calls = ENDS_CALLS_OTHERWISE.replace("'</call>'", "'<|call_end|>'")
    tokenizer = tokenizer_with(closes_calls, special=["<|eom|>", "<|call_end|>"])
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert names == ["<|im_end|>", "<|eom|>"]


def test_behind_a_call_without_an_end_the_tools_turn_stops_it():
    opens = GLM_4.replace(
        "m['content'] }}",
        "m['content'] + ((m['tool_calls'] | tojson) if m['tool_calls'] else '') }}",
    )
    tokenizer = glm_4(opens)
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert names == ["<|user|>", "<|tool|>", "<|endoftext|>"]


def test_a_template_that_wants_more_than_questions_and_answers_has_no_known_ends():
    template = "{{ raise_exception('a system prompt, please') }}"
    assert ends_of(byte_tokenizer(template)) == Ends()
