"""Packed rows through a model's own forward, whatever its architecture and its head."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from burnish.training.loss import PLAIN, LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from tests.training.family import (
    FAMILY,
    OTHERS,
    adapted,
    build,
    by_rows,
    one_by_one,
    records,
    worst_difference,
)

RECORDS = records((5, 40, 17, 9, 33), prefix=4)
MODELS = {**OTHERS, "qwen2": FAMILY["qwen2"], "windows": ("Mistral", {"sliding_window": 16})}


def model_of(name):
    kind, settings = MODELS[name]
    return adapted(build(kind, **settings))


@pytest.mark.parametrize("name", MODELS)
def test_packed_rows_give_the_loss_and_gradients_of_one_record_at_a_time(name):
    model = model_of(name).double()
    loss, gradients = one_by_one(model, RECORDS)
    rows = pack(RECORDS, 64, share_prefixes=False)
    assert len(rows) < len(RECORDS)
    packed, packed_gradients = by_rows(model, PackedModel(model).loss_sum, rows)
    assert packed == pytest.approx(loss, rel=1e-6)
    assert worst_difference(packed_gradients, gradients) < 1e-5


@pytest.mark.parametrize("name", ["qwen2", "gemma 2, soft caps"])
@pytest.mark.parametrize("terms", [PLAIN, LossTerms(0.2, 0.01)], ids=str)
def test_smoothing_and_z_loss_are_added_whatever_the_head(name, terms):
    model = model_of(name).double()
    (row,) = pack(RECORDS[:1], 64, share_prefixes=False)
    with torch.no_grad():
        found = PackedModel(model).loss_sum(row, terms)
        logits = model(input_ids=row.input_ids[None]).logits[0, row.predictors]
    smoothed = cross_entropy(
        logits, row.targets, reduction="sum", label_smoothing=terms.label_smoothing
    )
    expected = smoothed + terms.z_loss * logits.logsumexp(-1).square().sum()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["qwen2", "gemma 2, soft caps", "gpt-neox"])
def test_only_supervised_positions_go_through_the_head(name):
    model = model_of(name)
    (row,) = pack(RECORDS, 999, share_prefixes=False)
    assert len(row.predictors) < len(row)
    head, seen = model.get_base_model().get_output_embeddings(), []
    head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[-2]))
    PackedModel(model).loss_sum(row)
    assert seen in ([], [len(row.predictors)])  # the plain head's weight is used without a call


def test_a_head_that_learns_gets_its_gradient():
    model = adapted(build("Llama", tie_word_embeddings=False), ["q_proj", "lm_head"])
    loss, gradients = one_by_one(model, RECORDS)
    rows = pack(RECORDS, 64, share_prefixes=False)
    found, packed = by_rows(model, PackedModel(model).loss_sum, rows)
    assert found == pytest.approx(loss, rel=1e-5)
    assert worst_difference(packed, gradients) < 1e-4


@pytest.mark.parametrize("name", ["qwen2", "gemma 2, soft caps"])
def test_a_row_with_nothing_to_learn_has_no_loss(name):
    model = model_of(name)
    (row,) = pack([([5, 6, 7], [-100] * 3)], 8, share_prefixes=False)
    loss = PackedModel(model).loss_sum(row)
    loss.backward()
    assert float(loss.detach()) == 0


def test_a_bfloat16_models_loss_is_summed_in_float32():
    (row,) = pack(RECORDS[:1], 64, share_prefixes=False)
    for name in ("qwen2", "gemma 2, soft caps"):
        loss = PackedModel(model_of(name).to(torch.bfloat16)).loss_sum(row)
        assert loss.dtype == torch.float32


def test_a_record_alone_is_given_without_positions():
    asked = []

    class NoPositions(torch.nn.Module):
        base_model_prefix = "model"

        def __init__(self):
            super().__init__()
            self.model = build("Llama")
            self.config = self.model.config

        def get_output_embeddings(self):
            return None

        def forward(self, input_ids, use_cache):
            asked.append(use_cache)
            return self.model(input_ids=input_ids, use_cache=use_cache)

    (row,) = pack(RECORDS[:1], 64, share_prefixes=False)
    with torch.no_grad():
        found = PackedModel(NoPositions()).loss_sum(row)
        torch.testing.assert_close(found, PackedModel(build("Llama")).loss_sum(row))
    assert asked == [False]
