"""New tokens: ordinary words of the vocabulary, with their list in the tokenizer's settings."""

from __future__ import annotations

import pytest

from burnish.errors import RecipeError
from burnish.templates.new_tokens import add_new_tokens, new_token_ids
from tests.conftest import byte_tokenizer

SIZE = 3 + 256
"""Control tokens and bytes."""


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_each_word_gets_the_next_id_and_is_read_as_one_token(tokenizer):
    assert len(ids(tokenizer, "HbA1c")) == 5
    add_new_tokens(tokenizer, ["HbA1c", "BMI"])
    assert new_token_ids(tokenizer) == [SIZE, SIZE + 1]
    assert ids(tokenizer, "HbA1c") == [SIZE]
    assert ids(tokenizer, "xBMI") == [*ids(byte_tokenizer(), "x"), SIZE + 1]


def test_they_are_no_special_tokens_and_are_shown_in_texts(tokenizer):
    add_new_tokens(tokenizer, ["HbA1c"])
    assert SIZE not in tokenizer.all_special_ids
    assert tokenizer.decode([SIZE], skip_special_tokens=True) == "HbA1c"


def test_a_saved_tokenizer_knows_them_and_is_not_given_them_again(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    add_new_tokens(tokenizer, ["HbA1c"])
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert new_token_ids(again) == [SIZE]
    add_new_tokens(again, ["HbA1c"])
    assert len(again) == SIZE + 1


@pytest.mark.parametrize("word", ["<|im_end|>", "a"])
def test_a_token_that_the_model_has_is_refused(tokenizer, word):
    with pytest.raises(RecipeError, match="is a token of this model already"):
        add_new_tokens(tokenizer, [word])


def test_without_new_tokens_nothing_changes(tokenizer):
    add_new_tokens(tokenizer, [])
    assert new_token_ids(tokenizer) == []
    assert len(tokenizer) == SIZE
