"""Attention by torch's varlen kernel; here on a CPU, with the kernel's formula in its place."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import varlen

from burnish.models.attention import attention_of
from burnish.training import varlen as ours
from burnish.training.acceleration import settle_attention
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from burnish.training.varlen import VARLEN, against_varlen, use_varlen
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
MODELS = {
    "qwen2": FAMILY["qwen2"],
    "phi 3": OTHERS["phi 3"],
    "gpt-neox": OTHERS["gpt-neox"],
    "gemma 3, windows of 16": (
        "Gemma3",
        {**OTHERS["gemma 3"][1], "sliding_window": 16},
    ),
    "mistral, windows of 16": ("Mistral", {"sliding_window": 16}),
}


def formula(query, key, value, ends, ends_k, longest, longest_k, *, scale, window_size, **_):
    """softmax(q kᵀ scale) v in each record, over those at most `window_size[0]` back."""
    assert ends is ends_k
    assert longest == longest_k == int((ends[1:] - ends[:-1]).max())
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    outputs = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        scores = torch.einsum("qhd,khd->hqk", query[start:end], key[start:end]) * scale
        place = torch.arange(end - start)
        back = place[:, None] - place[None, :]
        hidden = back < 0 if window_size[0] < 0 else (back < 0) | (back > window_size[0])
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, value[start:end]))
    return torch.cat(outputs)


@pytest.fixture
def kernel(monkeypatch):
    """The formula in the kernel's place, on a machine that has it as far as anyone asks."""
    monkeypatch.setattr(varlen, "varlen_attn", formula)
    monkeypatch.setattr(ours, "_kernel_parameters", lambda: frozenset({"scale", "window_size"}))
    monkeypatch.setattr(ours, "against_kernels", lambda device, dtype: "")


@pytest.mark.parametrize("name", MODELS)
def test_packed_rows_equal_one_record_at_a_time(name, kernel):
    kind, settings = MODELS[name]
    model = adapted(build(kind, **settings)).double()
    loss, gradients = one_by_one(model, RECORDS)
    use_varlen(model)
    rows = pack(RECORDS, 64, share_prefixes=False)
    assert len(rows) < len(RECORDS)
    found, packed = by_rows(model, PackedModel(model).loss_sum, rows)
    assert found == pytest.approx(loss, rel=1e-6)
    assert worst_difference(packed, gradients) < 1e-5


def test_what_comes_without_boundaries_is_left_to_sdpa(kernel, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", None)
    model = build("Llama")
    ids = torch.tensor([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]])
    given = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    sampling = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    expected = model(**given).logits, model.generate(**given, **sampling)
    use_varlen(model)
    assert attention_of(model) == VARLEN
    torch.testing.assert_close(model(**given).logits, expected[0])
    assert torch.equal(model.generate(**given, **sampling), expected[1])


def test_it_is_taken_where_it_agrees_with_the_model(kernel, capfd):
    model = adapted(build("Llama"))
    settle_attention(model, RECORDS)
    assert attention_of(model) == VARLEN
    assert "torch's varlen kernel computes the attention of each record" in capfd.readouterr().err


@pytest.mark.parametrize(
    "broken, said",
    [
        (lambda q, k, v, *_, **__: formula(q, k, v, *_, **{**__, "scale": 1.0}), "its loss is"),
        (lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no kernel\nmore")), "no kernel"),
    ],
    ids=["another formula", "a kernel that fails"],
)
def test_the_model_keeps_its_attention_where_it_does_not(broken, said, kernel, monkeypatch, capfd):
    monkeypatch.setattr(varlen, "varlen_attn", broken)
    model = adapted(build("Llama"))
    expected, _ = one_by_one(model, RECORDS)
    settle_attention(model, RECORDS)
    assert attention_of(model) == "sdpa"
    assert f"sdpa computes attention; torch's varlen kernel is not taken: {said}" in (
        capfd.readouterr().err
    )
    assert one_by_one(model, RECORDS)[0] == expected


def test_a_model_that_takes_no_other_attention_keeps_its_own_in_silence(kernel, monkeypatch, capfd):
    model = adapted(build("Llama"))
    monkeypatch.setattr(type(model.get_base_model()), "set_attn_implementation", lambda *_: None)
    settle_attention(model, RECORDS)
    assert attention_of(model) == "sdpa"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "name, lack",
    [("gemma 2, soft caps", "softcap"), ("dropout", "dropout")],
)
def test_what_the_kernel_does_not_compute_is_refused(name, lack, kernel):
    kind, settings = OTHERS.get(name, ("Llama", {"attention_dropout": 0.1}))
    model = build(kind, **settings).train()
    use_varlen(model)
    (row,) = pack(RECORDS, 999, share_prefixes=False)
    with pytest.raises(ValueError, match=f"varlen attention has no {lack}"):
        PackedModel(model).loss_sum(row)


def test_it_is_not_taken_without_a_gpu_for_wide_heads_or_by_an_old_torch(monkeypatch):
    model = build("Llama")
    assert against_varlen(model) == "it needs a GPU"
    monkeypatch.setattr(ours, "against_kernels", lambda device, dtype: "")
    assert against_varlen(model) == ""
    assert "heads are wider" in against_varlen(build("Llama", head_dim=264))
    monkeypatch.setattr(varlen, "varlen_attn", lambda query, key, value, is_causal: None)
    assert "this torch has none" in against_varlen(model)
