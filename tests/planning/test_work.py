"""The work of a step by hand."""

from __future__ import annotations

from burnish.planning.work import work_of
from burnish.recipe import LoraSettings
from burnish.training.adapter import add_adapter
from tests.conftest import tiny_llama

BODY = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
"""Weights of the tiny model's layers: q and o, k and v, gate, up and down, in two layers."""


def flops(work, tokens=0, supervised=0, pairs=0):
    return work.flops(tokens=tokens, supervised=supervised, pairs=pairs)


def test_frozen_weights_count_twice_adapters_three_times_and_the_head_where_it_is_used():
    model = add_adapter(tiny_llama(100), LoraSettings(r=4))
    work = work_of(model)
    adapter = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert flops(work, tokens=1) == 2 * 2 * BODY + 3 * 2 * adapter
    assert flops(work, supervised=1) == 2 * 2 * 100 * 32
    # Two layers of 4 heads of 8; 7 products of 2 FLOPs for each pair.
    assert flops(work, pairs=1) == 7 * 2 * 2 * 32


def test_weights_that_learn_themselves_count_three_times():
    work = work_of(tiny_llama(100))
    assert flops(work, tokens=1) == 3 * 2 * BODY
    assert flops(work, supervised=1) == 3 * 2 * 100 * 32


def test_an_expert_counts_for_the_tokens_that_it_sees():
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    work = work_of(MixtralForCausalLM(config).requires_grad_(False))
    attention = 4 * 16 * 16
    experts = 2 * (3 * 16 * 24)  # two of the four
    router = 4 * 16
    assert flops(work, tokens=1) in (
        2 * 2 * (attention + experts),  # where the router is no linear layer
        2 * 2 * (attention + experts + router),
    )


def test_a_forward_pass_multiplies_once_and_twice_in_attention():
    work = work_of(add_adapter(tiny_llama(100), LoraSettings(r=4)))
    adapter = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert work.forward(tokens=1, supervised=0, pairs=0) == 2 * (BODY + adapter)
    assert work.forward(tokens=0, supervised=1, pairs=1) == 2 * 100 * 32 + 2 * 2 * 2 * 32
