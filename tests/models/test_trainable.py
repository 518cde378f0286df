"""Which weights learn with each method, counted by hand, and in which type they are held."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import RecipeError
from burnish.models.trainable import held_in, layers_of, make_trainable
from burnish.recipe import TrainSection
from tests.conftest import tiny_llama

VOCAB, WIDTH, INNER = 32, 32, 64
LAYER = 2 * WIDTH * WIDTH + 2 * WIDTH * 16 + 3 * WIDTH * INNER + 2 * WIDTH
"""q and o, k and v (two of four heads), the MLP, two norms."""


def learning(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_full_trains_every_weight_a_tied_one_once():
    model = make_trainable(tiny_llama(VOCAB), TrainSection(method="full"))
    assert count(model) == VOCAB * WIDTH + 2 * LAYER + WIDTH


def test_freeze_trains_the_last_so_many_layers():
    section = TrainSection(method="freeze", freeze_trainable_layers=1)
    model = make_trainable(tiny_llama(VOCAB), section)
    assert count(model) == LAYER
    assert {name.split(".")[2] for name in learning(model)} == {"1"}


def test_freeze_trains_the_parts_of_these_names():
    section = TrainSection(method="freeze", freeze_trainable_layers=["layers.0.mlp", "norm"])
    model = make_trainable(tiny_llama(VOCAB), section)
    mlp = {f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    assert learning(model) == {*mlp, "model.norm.weight"}


def test_a_layers_number_is_not_read_out_of_a_longer_one():
    section = TrainSection(method="freeze", freeze_trainable_layers=["layers.1"])
    model = make_trainable(tiny_llama(VOCAB, num_hidden_layers=12), section)
    assert {name.split(".")[2] for name in learning(model)} == {"1"}


def test_a_head_that_is_tied_learns_as_the_embedding_that_it_is():
    section = TrainSection(method="freeze", freeze_trainable_layers=["lm_head"])
    assert learning(make_trainable(tiny_llama(VOCAB), section)) == {"model.embed_tokens.weight"}
    free = make_trainable(tiny_llama(VOCAB, tie_word_embeddings=False), section)
    assert learning(free) == {"lm_head.weight"}


def test_lora_trains_an_adapter_alone():
    model = make_trainable(tiny_llama(VOCAB), TrainSection())
    assert all("lora_" in name for name in learning(model))


def test_what_learns_is_held_in_float32_and_the_rest_as_it_is():
    section = TrainSection(method="freeze", freeze_trainable_layers=1)
    model = make_trainable(tiny_llama(VOCAB).to(torch.bfloat16), section)
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if ".layers.1." in name else torch.bfloat16)


def test_a_part_that_is_not_there_is_refused_with_those_that_are():
    section = TrainSection(method="freeze", freeze_trainable_layers=["layers.1", "head"])
    with pytest.raises(RecipeError, match="'head' names no part") as caught:
        make_trainable(tiny_llama(VOCAB), section)
    assert "embed_tokens, layers, norm, rotary_emb, lm_head" in caught.value.remedy


def test_more_layers_than_there_are_are_refused():
    section = TrainSection(method="freeze", freeze_trainable_layers=3)
    with pytest.raises(RecipeError, match="this model has 2 layers, not 3"):
        make_trainable(tiny_llama(VOCAB), section)


def test_the_stack_of_layers_is_found_by_its_length():
    name, layers = layers_of(tiny_llama(VOCAB))
    assert (name, len(layers)) == ("layers", 2)


def test_a_model_without_a_stack_of_layers_is_refused():
    model = tiny_llama(VOCAB)
    model.config.num_hidden_layers = 5
    with pytest.raises(RecipeError, match="no list of layers"):
        layers_of(model)


@pytest.mark.parametrize(
    ("method", "own", "held"),
    [
        ("lora", torch.float32, torch.bfloat16),
        ("full", torch.bfloat16, torch.float32),
        ("freeze", torch.bfloat16, torch.bfloat16),
        ("freeze", torch.float32, torch.float32),  # saved with the rest, so it is not rounded
    ],
)
def test_the_type_that_a_base_is_loaded_in_loses_nothing_that_is_saved(method, own, held):
    assert held_in(TrainSection(method=method), torch.bfloat16, own) == held


@pytest.mark.parametrize("start", ["pissa", "olora", "loftq", "orthogonal"])
def test_a_model_without_weights_can_be_counted_whatever_the_start(start):
    lora = {"init_lora_weights": start, "r": 2}
    with torch.device("meta"):
        model = make_trainable(
            tiny_llama(VOCAB), TrainSection.model_validate({"lora": lora}), initialize=False
        )
    assert count(model) == 2 * 2 * (4 * 32 + 32 + 16 + 32 + 16 + 3 * (32 + 64))
