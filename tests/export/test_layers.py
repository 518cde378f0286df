"""Decoder layers: found, replayed one by one, and watched."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import ExportError
from burnish.export.layers import (
    decoder_layers,
    first_inputs,
    hessians,
    linear_names,
    run_layer,
)
from tests.conftest import tiny_llama


def test_the_layers_and_their_linears_are_found_in_order():
    layers = decoder_layers(tiny_llama(32, num_hidden_layers=3))
    assert [layer.self_attn.layer_idx for layer in layers] == [0, 1, 2]
    assert linear_names(layers[0]) == [
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    ]


def test_layers_run_one_by_one_give_what_the_whole_model_gives():
    model = tiny_llama(32)
    layers = decoder_layers(model)
    samples = [[1, 5, 9, 2], [1, 7]]
    with torch.no_grad():
        hidden, arguments = first_inputs(model, layers, samples)
        for index, ids in enumerate(samples):
            states = hidden[index]
            for place, layer in enumerate(layers):
                states = run_layer(layer, states, arguments[index][place])
            logits = model.lm_head(model.model.norm(states))
            expected = model(input_ids=torch.tensor([ids])).logits
            torch.testing.assert_close(logits, expected)


def test_a_model_whose_layers_are_not_found_is_refused():
    model = tiny_llama(32)
    model.config.num_hidden_layers = 5
    with pytest.raises(ExportError, match="no list of 5 decoder layers"):
        decoder_layers(model)


def test_layers_that_do_not_feed_one_another_are_refused():
    model = tiny_llama(32)
    layers = decoder_layers(model)
    layers[1].register_forward_pre_hook(
        lambda m, args, kwargs: ((args[0] * 2,), kwargs), with_kwargs=True, prepend=True
    )
    with pytest.raises(ExportError, match="do not simply feed one another"), torch.no_grad():
        first_inputs(model, layers, [[1, 2, 3]])


def test_layers_with_the_same_input_share_a_hessian_and_idle_ones_round_to_nearest():
    linears = {name: torch.nn.Linear(2, 2) for name in ("q", "k", "o", "idle")}
    inputs = torch.tensor([[1.0, 2.0]])
    with hessians(linears) as hessian_of:
        linears["q"](inputs)
        linears["k"](inputs)
        linears["o"](inputs + 1)
    assert hessian_of("q").tolist() == hessian_of("k").tolist() == [[2.0, 4.0], [4.0, 8.0]]
    assert hessian_of("o").tolist() == [[8.0, 12.0], [12.0, 18.0]]
    assert hessian_of("idle").tolist() == [[1.0, 0.0], [0.0, 1.0]]
