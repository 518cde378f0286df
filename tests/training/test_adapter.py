"""Adapters: which layers they sit on, whether gradients arrive, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from burnish.errors import RecipeError
from burnish.recipe import LoraSettings
from burnish.scoring import collate, supervised_logits
from burnish.training.adapter import add_adapter, linear_layers
from burnish.training.recomputing import recompute_layers
from tests.conftest import tiny_llama

ROWS = [([1, 5, 6, 7, 2], [-100, -100, 6, 7, 2]), ([1, 9, 8, 2], [-100, -100, 8, 2])]
LINEARS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def adapted(base=None, **settings):
    base = base if base is not None else tiny_llama(32)
    return add_adapter(base, LoraSettings(r=2, **settings))


def backward(model, rows=ROWS):
    logits, targets = supervised_logits(model, collate(rows))
    loss = torch.nn.functional.cross_entropy(logits.float(), targets)
    loss.backward()
    return float(loss.detach())


def test_the_linear_layers_are_named_without_the_head():
    assert linear_layers(tiny_llama(32)) == LINEARS


def test_an_adapter_sits_on_every_linear_layer_and_only_it_is_trained():
    model = adapted()
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2  # layers, linears, A and B
    assert all("lora_" in name for name in trained)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_adapter_weights_are_float32_on_a_bfloat16_base():
    model = adapted(tiny_llama(32).to(torch.bfloat16))
    dtypes = {p.dtype for p in model.parameters() if p.requires_grad}
    assert dtypes == {torch.float32}


def test_target_modules_that_fit_nothing_are_refused_with_the_layers_that_exist():
    with pytest.raises(RecipeError) as caught:
        adapted(target_modules=["query"])
    assert caught.value.where == "train.lora.target_modules"
    assert "'query'" in caught.value.problem
    assert ", ".join(LINEARS) in caught.value.remedy


def test_one_unknown_name_among_known_ones_is_refused_too():
    with pytest.raises(RecipeError, match="'v_porj' fits no layer"):
        adapted(target_modules=["q_proj", "v_porj"])


def test_a_layer_that_can_bear_no_adapter_is_refused():
    with pytest.raises(RecipeError, match="fits no layer"):
        adapted(target_modules=["input_layernorm"])


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(RecipeError, match="fits no layer"):
        adapted(target_modules="nothing_like_it")


def test_named_layers_alone_are_adapted():
    model = adapted(target_modules=["q_proj", "v_proj"])
    names = {
        n.split(".lora_")[0].rpartition(".")[2]
        for n, _ in model.named_parameters()
        if ".lora_" in n
    }
    assert names == {"q_proj", "v_proj"}


def test_the_layers_are_written_in_order_so_that_the_same_run_gives_the_same_file(tmp_path):
    model = adapted()  # all-linear, whose names PEFT keeps in a set
    model.save_pretrained(str(tmp_path))
    written = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert len(written) == 14
    assert written == sorted(written)
    assert adapted(target_modules=".*q_proj").peft_config["default"].target_modules == ".*q_proj"


def test_gradient_checkpointing_gives_the_same_gradients():
    plain, saving = tiny_llama(32), tiny_llama(32)
    torch.manual_seed(0)
    first = add_adapter(plain, LoraSettings(r=2))
    torch.manual_seed(0)
    second = add_adapter(saving, LoraSettings(r=2))
    recompute_layers(second, 2)
    first.train()
    second.train()
    assert backward(first) == pytest.approx(backward(second), abs=1e-6)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    for one, two in pairs:
        if one.grad is not None:
            torch.testing.assert_close(one.grad, two.grad)
