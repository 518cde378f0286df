import pytest
import torch
from peft import get_peft_model
from transformers.modeling_layers import GradientCheckpointingLayer

from burnish.models.lora import lora_config
from burnish.recipe import LoraSettings
from burnish.training.backends import Backend
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from burnish.training.recomputing import recompute_layers, recomputing
from tests.conftest import tiny_llama
from tests.planning.made_up import records

LORA = LoraSettings(r=2)


def adapted():
    torch.manual_seed(0)
    return get_peft_model(tiny_llama(32, num_hidden_layers=4), lora_config(LORA)).train()


def forward_passes(model):
    """How often each layer goes forward in a step."""
    counts = []
    for index, layer in enumerate(model.get_base_model().model.layers):
        counts.append(0)

        def count(*_, at=index):
            counts[at] += 1

        layer.input_layernorm.register_forward_hook(count)
    (row,) = pack(records((12, 6)), 100, share_prefixes=False)
    PackedModel(model).loss_sum(row).backward()
    return counts


@pytest.mark.parametrize(
    ("number", "expected"), [(0, [1, 1, 1, 1]), (1, [2, 1, 1, 1]), (3, [2, 2, 2, 1]), (4, [2] * 4)]
)
def test_the_first_so_many_layers_go_forward_twice(number, expected):
    model = adapted()
    recompute_layers(model, number)
    assert forward_passes(model) == expected


def test_fewer_layers_may_follow_more():
    model = adapted()
    recompute_layers(model, 4)
    recompute_layers(model, 1)
    assert forward_passes(model) == [2, 1, 1, 1]
    recompute_layers(model, 0)
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    assert not any(layer.gradient_checkpointing for layer in layers)


def test_gradients_are_the_same_however_many_recompute():
    (row,) = pack(records((12, 6), (9, 4)), 100, share_prefixes=False)
    found = []
    for number in (0, 2, 4):
        model = adapted()
        recompute_layers(model, number)
        PackedModel(model).loss_sum(row).backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_the_fast_path_is_told_how_many_and_the_model_is_left_alone():
    model = adapted()
    told = []
    backend = Backend("fast", lambda row, num_recomputed: told.append(num_recomputed), True)
    recomputing(backend, model, 3).loss_sum("a row")
    assert told == [3]
    assert forward_passes(model) == [1, 1, 1, 1]


def test_with_its_own_forward_the_models_layers_are_told():
    model = adapted()
    backend = Backend("transformers", PackedModel(model).loss_sum, False)
    assert recomputing(backend, model, 2) is backend
    assert forward_passes(model) == [2, 2, 1, 1]
