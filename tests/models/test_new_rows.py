"""Rows of new tokens: where they stand, what they start with, and what is refused."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import ModelError
from burnish.models.loading import load_base
from burnish.models.new_rows import add_rows, new_rows
from burnish.recipe import ModelSection
from tests.conftest import byte_tokenizer, tiny_llama

SIZE = 3 + 256


def section(*words):
    return ModelSection(new_tokens=list(words))


@pytest.mark.parametrize("tied", [True, False])
def test_a_row_starts_at_the_mean_of_the_tokens_that_the_word_was(tiny_model, tied):
    model = tiny_llama(SIZE, tie_word_embeddings=tied)
    before = [model.lm_head.weight.detach().clone(), model.model.embed_tokens.weight.clone()]
    add_rows(model, tiny_model, section("ab"))
    pieces = byte_tokenizer()("ab", add_special_tokens=False)["input_ids"]
    for table, old in zip((model.lm_head, model.model.embed_tokens), before, strict=True):
        assert table.weight.shape == (SIZE + 1, 32)
        assert torch.equal(table.weight[:SIZE], old)
        torch.testing.assert_close(table.weight[SIZE], old[pieces].mean(0))
    assert model.config.vocab_size == SIZE + 1
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_a_model_with_rows_to_spare_keeps_its_size(tiny_model):
    model = tiny_llama(SIZE + 5)
    add_rows(model, tiny_model, section("ab", "cd"))
    assert model.config.vocab_size == SIZE + 5


@pytest.mark.parametrize("tied", [True, False])
def test_the_rows_that_learn_are_named_by_their_layers(tiny_model, tied):
    model = tiny_llama(SIZE, tie_word_embeddings=tied)
    add_rows(model, tiny_model, section("ab", "cd"))
    wanted = {"model.embed_tokens": [SIZE, SIZE + 1]}
    found = new_rows(model, tiny_model, section("ab", "cd"))
    assert found == wanted | ({} if tied else {"lm_head": [SIZE, SIZE + 1]})


def test_without_new_tokens_a_base_is_as_it_was(tiny_model):
    model = tiny_llama(SIZE)
    add_rows(model, tiny_model, section())
    assert new_rows(model, tiny_model, section()) == {}
    assert model.config.vocab_size == SIZE


def test_a_base_is_loaded_with_them(tiny_model):
    wanted = ModelSection(name_or_path=str(tiny_model), new_tokens=["ab"])
    model = load_base(tiny_model, wanted, dtype=torch.float32)
    assert len(model.get_input_embeddings().weight) == SIZE + 1


def test_a_head_with_biases_is_refused(tiny_model):
    model = tiny_llama(SIZE, tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(32, SIZE)
    with pytest.raises(ModelError, match="its head has biases"):
        add_rows(model, tiny_model, section("ab"))
