"""Packed rows through a model's own forward, whatever its architecture and its head."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface

from burnish.training import packed_model
from burnish.training.loss import PLAIN, LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack, pad_row
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


# --- the attention of the model's own forward ------------------------------------------------


@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize("length", [0, 64], ids=["as they come", "padded to 64"])
def test_every_attention_keeps_the_records_of_a_row_apart(name, length):
    model = adapted(build("Qwen2")).double()
    loss, gradients = one_by_one(model, RECORDS)
    model.get_base_model().set_attn_implementation(name)
    rows = [pad_row(row, length or 1) for row in pack(RECORDS, 64, share_prefixes=False)]
    packed, packed_gradients = by_rows(model, PackedModel(model).loss_sum, rows)
    assert packed == pytest.approx(loss, rel=1e-6)
    assert worst_difference(packed_gradients, gradients) < 1e-5


@pytest.mark.slow  # it is compiled
def test_flex_attention_keeps_the_records_of_a_row_apart():
    # On a CPU it has no backward pass; gradients are compared where there is a GPU (tests/gpu).
    model = adapted(build("Qwen2", hidden_size=96))  # flex_attention wants heads of 16 and more
    expected, _ = one_by_one(model, RECORDS)
    model.get_base_model().set_attn_implementation("flex_attention")
    rows = [pad_row(row, 128) for row in pack(RECORDS, 128, share_prefixes=False)]
    with torch.no_grad():
        found = sum(float(PackedModel(model).loss_sum(row)) for row in rows)
    assert found / sum(len(row.targets) for row in rows) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def flash(monkeypatch):
    """Stands in for flash-attn: every record by itself, told apart by the places they begin at."""
    asked = []

    def forward(module, query, key, value, attention_mask, scaling=None, **told):
        assert attention_mask is None
        assert told["cu_seq_lens_q"] is told["cu_seq_lens_k"]
        assert told["cu_seq_lens_q"].dtype == torch.int32
        assert told["max_length_q"] == told["max_length_k"]
        ends = told["cu_seq_lens_q"].tolist()
        asked.append((ends, told["max_length_q"]))
        parts = [
            scaled_dot_product_attention(
                *(x[:, :, start:stop] for x in (query, key, value)),
                is_causal=True,
                scale=scaling,
                enable_gqa=True,
            )
            for start, stop in pairwise(ends)
        ]
        return torch.cat(parts, 2).transpose(1, 2).contiguous(), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", forward)
    return asked


def take_flash(model):
    model.get_base_model().config._attn_implementation_internal = "flash_attention_2"


@pytest.mark.parametrize("length", [0, 64], ids=["as they come", "padded to 64"])
def test_flash_attention_is_told_where_records_begin(flash, length):
    model = adapted(build("Qwen2")).double()
    loss, gradients = one_by_one(model, RECORDS)
    take_flash(model)
    # 5, 4 + 40, 17, 4 + 9 and 33 tokens: rows of 44 + 17 and 33 + 13 + 5.
    rows = [pad_row(row, length or 1) for row in pack(RECORDS, 64, share_prefixes=False)]
    packed, packed_gradients = by_rows(model, PackedModel(model).loss_sum, rows)
    assert packed == pytest.approx(loss, rel=1e-6)
    assert worst_difference(packed_gradients, gradients) < 1e-5
    end = [64] if length else []
    first, second = ([0, 44, 61, *end], 44), ([0, 33, 46, 51, *end], 33)
    assert flash == [first, first, second, second]  # both layers of each


def test_a_record_alone_is_told_of_too_so_that_no_layer_looks_for_others(flash):
    model = adapted(build("Qwen2"))
    take_flash(model)
    (row,) = pack(RECORDS[:1], 64, share_prefixes=False)
    PackedModel(model).loss_sum(row)
    assert flash == [([0, 5], 5)] * 2


def test_other_attentions_and_models_that_take_no_such_words_are_not_told():
    class Old:
        config = SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(_attn_implementation="flash_attention_2")
        )

        def forward(self, input_ids, position_ids=None, use_cache=None):
            raise NotImplementedError

    (row,) = pack(RECORDS[:1], 64, share_prefixes=False)
    assert packed_model._boundaries(Old(), row) == {}
    assert packed_model._boundaries(build("Qwen2"), row) == {}


def test_what_runs_the_model_can_be_replaced():
    seen = []

    def run(module, **inputs):
        seen.append(sorted(inputs))
        return module(**inputs, use_cache=False)

    model = model_of("qwen2")
    (row,) = pack(RECORDS[:2], 64, share_prefixes=False)
    torch.testing.assert_close(
        PackedModel(model, run).loss_sum(row), PackedModel(model).loss_sum(row)
    )
    assert seen == [["input_ids", "position_ids"]]
