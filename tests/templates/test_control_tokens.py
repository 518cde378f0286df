import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import Message
from burnish.templates.control_tokens import Hidden, pattern_of
from tests.conftest import byte_tokenizer

TOKENIZER = byte_tokenizer()
CONTROL = pattern_of(["<|im_end|>", "<|im_start|>", "<|endoftext|>"])


def test_the_pattern_finds_the_longest_name_and_no_blanks():
    assert pattern_of(["<s>", "<s>x", " "]).findall("a <s>x <s>") == ["<s>x", "<s>"]
    assert pattern_of([]).search("anything") is None


def test_placeholders_stand_for_control_tokens_in_all_texts_of_a_message():
    hidden = Hidden(TOKENIZER, CONTROL)
    end = "<|im_end|>"
    message = Message(
        "assistant",
        f"a{end}",
        end,
        ({"name": end, "arguments": {end: [f"b{end}", 1, None, {"c": end}]}},),
    )
    covered = hidden.cover(message)
    assert end not in str(covered)
    assert covered.role == "assistant"
    assert covered.content.startswith("a")
    assert covered.tool_calls[0]["arguments"] != message.tool_calls[0]["arguments"]
    assert hidden.cover(Message("user", "plain", "text")) == Message("user", "plain", "text")


def test_placeholders_of_somebody_else_are_taken_out():
    hidden = Hidden(TOKENIZER, CONTROL)
    assert hidden.cover("a\ue0f00\ue0f1b") == "a0b"


pieces = st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "x"])


@given(st.lists(pieces | st.text(max_size=4), max_size=8).map("".join))
def test_a_covered_text_has_no_control_token_and_reads_as_before(text):
    hidden = Hidden(TOKENIZER, CONTROL)
    ids = hidden.encode(hidden.cover(text))
    assert not {0, 1, 2} & set(ids)
    assert TOKENIZER.decode(ids) == re.sub("[\ue0f0\ue0f1]", "", text)


@pytest.mark.parametrize("text", ["", "plain", "头痛 🩺"])
def test_benign_text_is_encoded_as_the_tokenizer_does(text):
    hidden = Hidden(TOKENIZER, CONTROL)
    assert hidden.cover(text) == text
    assert hidden.encode(text) == TOKENIZER(text, add_special_tokens=False)["input_ids"]
