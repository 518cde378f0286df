"""LoftQ's start: the adapter holds what 4 bits lost, whatever the scale."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import ModelError
from burnish.models.loading import load_base
from burnish.recipe import LoraSettings, ModelSection
from burnish.training.adapter import add_adapter
from burnish.training.loftq import split, start_from_residual

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_matrix_of_rank_two_is_split_without_loss():
    matrix = torch.tensor([[2.0, 0, 1], [0, 3, 0]])
    a, b = split(matrix, 2)
    assert (a.shape, b.shape) == ((2, 3), (2, 2))
    torch.testing.assert_close(b @ a, matrix)


def test_of_a_greater_rank_the_largest_parts_are_kept():
    a, b = split(torch.diag(torch.tensor([5.0, 1, 3])), 2)
    torch.testing.assert_close(b @ a, torch.diag(torch.tensor([5.0, 0, 3])), atol=1e-6, rtol=0)


def four_bits(folder, **lora):
    pytest.importorskip("bitsandbytes")
    section = ModelSection(name_or_path=str(folder), load_in_4bit=True)
    base = load_base(folder, section, dtype=torch.float32)
    return add_adapter(base, LoraSettings(**lora))


@pytest.mark.parametrize("rslora", [False, True])
def test_base_and_adapter_together_are_the_whole_weight_where_the_rank_suffices(tiny_model, rslora):
    from peft.tuners.lora.bnb import dequantize_bnb_weight

    model = four_bits(tiny_model, r=16, lora_alpha=64, use_rslora=rslora)
    start_from_residual(model, tiny_model)
    whole = load_base(tiny_model, ModelSection(name_or_path=str(tiny_model)), dtype=torch.float32)
    layer = model.get_base_model().model.layers[0].self_attn.k_proj  # [16, 32]: rank 16 is all
    held = layer.get_base_layer().weight
    quantized = dequantize_bnb_weight(held, state=held.quant_state).float()
    wanted = whole.model.layers[0].self_attn.k_proj.weight
    assert float((quantized - wanted).abs().max()) > 1e-3
    update = layer.get_delta_weight("default")
    torch.testing.assert_close(quantized + update, wanted, atol=1e-6, rtol=0)


def test_a_lower_rank_still_brings_every_weight_nearer(tiny_model):
    model = four_bits(tiny_model, r=4)
    start_from_residual(model, tiny_model)
    whole = load_base(tiny_model, ModelSection(name_or_path=str(tiny_model)), dtype=torch.float32)
    ids = torch.tensor([[1, 7, 9, 11, 2]])
    with torch.no_grad():
        wanted = whole(ids).logits
        with_start = (model(ids).logits - wanted).norm()
        with model.disable_adapter():
            without = (model(ids).logits - wanted).norm()
    assert float(with_start) < float(without)


def test_weights_that_are_named_otherwise_are_told(tiny_model, tmp_path):
    model = four_bits(tiny_model, r=4)
    with pytest.raises(ModelError, match=r"hold no model\.layers\.0\.self_attn\.q_proj\.weight"):
        start_from_residual(model, tmp_path)
