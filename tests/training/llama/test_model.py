"""Reading a PEFT model for the fast path: what fits, what doesn't and why, and what it leaves."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel
from torch import nn

from burnish.training.llama import model as module
from burnish.training.llama.model import Unfit, read_model
from burnish.training.packing import pack
from tests.training.family import FAMILY, OTHERS, VOCAB, adapted, build, records

IDS = torch.arange(3, 40)[None]


def small(kind="Llama", **settings):
    return build(kind, **settings)


def wide_norms(model):
    """A model whose q_norm spans all heads."""
    for block in model.model.layers:
        block.self_attn.q_norm.weight = nn.Parameter(torch.ones(24))
    return model


def quantized(model):
    model.is_quantized = True
    return model


def gone_wrong(model, name):
    model.get_base_model().model.layers[0].mlp.up_proj.lora_A = nn.ModuleDict(
        {"default": nn.Linear(24, 4), "other": nn.Linear(24, 4)}
    )
    return name and model


def learning_norm(model):
    model.get_base_model().model.norm.weight.requires_grad = True
    return model


def still(model):
    return model.requires_grad_(False)


UNFIT = {
    "dropout in the adapter": (lambda: adapted(small(), lora_dropout=0.1), "lora_dropout is not 0"),
    "dropout in attention": (
        lambda: adapted(small(attention_dropout=0.1)),
        "its attention has dropout",
    ),
    "DoRA": (lambda: adapted(small(), use_dora=True), "its adapter is a variant of LoRA"),
    "biases that learn": (
        lambda: adapted(small("Qwen2"), bias="all"),
        r"q_proj.base_layer.bias, .* learns too",
    ),
    "adapters with biases": (
        lambda: adapted(small(attention_bias=True, mlp_bias=True), lora_bias=True),
        "its adapter has biases",
    ),
    "a second adapter": (
        lambda: gone_wrong(adapted(small()), "other"),
        "it has several adapters",
    ),
    "an adapter on the head": (
        lambda: adapted(small(tie_word_embeddings=False), ["q_proj", "lm_head"]),
        "its head is no plain linear layer",
    ),
    "a norm that learns": (lambda: learning_norm(adapted(small())), "norm.weight learns too"),
    "nothing that learns": (lambda: still(adapted(small())), "nothing of it learns"),
    "a sliding window": (
        lambda: adapted(small("Mistral", sliding_window=16)),
        "it sees only a window",
    ),
    "windows in some layers": (
        lambda: adapted(
            small("Qwen3", use_sliding_window=True, sliding_window=16, max_window_layers=1)
        ),
        "some of its layers see only a window",
    ),
    "RoPE that changes with length": (
        lambda: adapted(
            small(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
        ),
        "its RoPE is dynamic",
    ),
    "a quantized base": (lambda: adapted(quantized(small())), "its base is quantized"),
    "another activation": (lambda: adapted(small(hidden_act="gelu")), "its activation is not SiLU"),
    "norms over all heads": (
        lambda: adapted(wide_norms(small("Qwen3", head_dim=4))),
        "it norms all heads together",
    ),
    "norms behind the layers": (lambda: adapted(small("Olmo2")), "its norms stand elsewhere"),
    "fused queries, keys and values": (lambda: adapted(small("Phi3")), "its attention has other"),
    "heads that turn in part": (
        lambda: adapted(small("StableLm")),
        "it turns only a part of every head",
    ),
    "scaled logits": (
        lambda: adapted(small("Granite", logits_scaling=4.0)),
        "its head is no plain linear layer",
    ),
    "another body": (
        lambda: adapted(build(OTHERS["gpt-neox"][0], **OTHERS["gpt-neox"][1])),
        "it has no Llama-like body",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_the_fast_path_does_not_compute_is_refused_with_the_reason(what):
    make, why = UNFIT[what]
    model = make()
    with pytest.raises(Unfit, match=why):
        read_model(model)


def test_a_merged_adapter_is_refused():
    model = adapted(small())
    model.merge_adapter()
    with pytest.raises(Unfit, match="its adapter is merged"):
        read_model(model)


@pytest.mark.parametrize("name", FAMILY)
def test_the_models_own_forward_gives_the_same_after_reading(name):
    kind, settings = FAMILY[name]
    model = adapted(build(kind, **settings))
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        parts = read_model(model)
        assert torch.equal(model(input_ids=IDS).logits, before)
    assert len(parts.layers) == model.config.num_hidden_layers


def test_weights_are_the_models_own():
    model = adapted(small())
    parts = read_model(model)
    frozen, updates = parts.layers[0]
    block = model.get_base_model().model.layers[0]
    own = [getattr(block.self_attn, f"{n}_proj").base_layer.weight for n in "qkv"]
    assert [id(w) for w in frozen.qkv.weights] == [id(w) for w in own]
    assert frozen.o.weights[0] is block.self_attn.o_proj.base_layer.weight
    assert parts.embedding is model.get_base_model().model.embed_tokens.weight
    assert updates[0] is block.self_attn.q_proj.lora_A["default"].weight
    assert len(updates) == 2 * 7


def test_only_adapted_layers_have_a_factor():
    model = adapted(small(), ["q_proj", "v_proj"])
    frozen, updates = read_model(model).layers[0]
    assert frozen.qkv.scales == (1.5, None, 1.5)  # lora_alpha / r is 6 / 4
    others = frozen.o.scales + frozen.gate_up.scales + frozen.down.scales
    assert others == (None,) * 4
    assert len(updates) == 4


def test_a_layer_may_have_a_bias_where_its_neighbour_has_none():
    model = small(attention_bias=True)
    model.model.layers[0].self_attn.k_proj.bias = None
    frozen, _ = read_model(adapted(model)).layers[0]
    q, k, v = frozen.qkv.biases
    assert (q.shape, k, v.shape) == ((24,), None, (8,))


def test_reading_twice_gives_the_same_parts():
    model, (row,) = adapted(small()), pack(records((20,)), 64, share_prefixes=False)
    first, second = read_model(model), read_model(model)
    with torch.no_grad():
        assert torch.equal(first.loss_sum(row), second.loss_sum(row))


def test_the_adapter_is_saved_and_loaded_as_ever_after_reading(tmp_path):
    model = adapted(small())
    read_model(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(small(), tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_base_and_merged_model_are_saved_whole_after_reading(tmp_path):
    model = adapted(small())
    read_model(model)
    with torch.no_grad():
        tuned = model(input_ids=IDS).logits
        with model.disable_adapter():
            plain = model(input_ids=IDS).logits
    untouched = copy.deepcopy(model)
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    untouched.unload().save_pretrained(tmp_path / "base")
    for name, expected in (("merged", tuned), ("base", plain)):
        loaded = type(merged).from_pretrained(tmp_path / name).eval()
        with torch.no_grad():
            torch.testing.assert_close(loaded(input_ids=IDS).logits, expected)


def test_a_row_with_nothing_to_learn_has_no_loss_and_no_gradient():
    model = adapted(small())
    (row,) = pack([([5, 6, 7], [-100] * 3)], 64, share_prefixes=False)
    loss = read_model(model).loss_sum(row)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("num_recomputed", [1, 2, 99])
def test_recomputed_layers_give_identical_gradients(num_recomputed):
    model = adapted(small())
    learning = [p for p in model.parameters() if p.requires_grad]
    (row,) = pack(records((20, 30)), 999, share_prefixes=True)
    parts = read_model(model)
    kept = torch.autograd.grad(parts.loss_sum(row), learning)
    made = torch.autograd.grad(parts.loss_sum(row, num_recomputed=num_recomputed), learning)
    for one, other in zip(kept, made, strict=True):
        assert torch.equal(one, other)


def test_the_loss_of_an_untrained_head_of_zeros_is_the_log_of_the_vocabulary():
    model = small(tie_word_embeddings=False)
    nn.init.zeros_(model.lm_head.weight)
    (row,) = pack([([5, 6, 7, 8], [-100, 6, 7, 8])], 64, share_prefixes=False)
    loss = read_model(adapted(model)).loss_sum(row)
    assert float(loss.detach()) == pytest.approx(3 * torch.tensor(float(VOCAB)).log().item())


@pytest.mark.parametrize("length", [31, 32, 33])
def test_tokens_that_make_a_row_a_round_length_change_nothing(length, monkeypatch):
    model = adapted(small())
    learning = [p for p in model.parameters() if p.requires_grad]
    (row,) = pack(records((length, 5)), 999, share_prefixes=False)
    parts = read_model(model)
    found = []
    for multiple in (1, 16):
        monkeypatch.setattr(module, "rounding", lambda _, multiple=multiple: multiple)
        loss = parts.loss_sum(row)
        found.append([loss.detach(), *torch.autograd.grad(loss, learning)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype, end", [(torch.float32, 28), (torch.bfloat16, 32)])
def test_rows_reach_the_layers_in_a_multiple_of_tokens(monkeypatch, dtype, end):
    seen = []
    own = module.layer

    def layer(x, frozen, rotation, segments, updates, **options):
        seen.append((len(x), [(s.start, s.stop) for s in segments]))
        return own(x, frozen, rotation, segments, updates, **options)

    monkeypatch.setattr(module, "layer", layer)
    (row,) = pack(records((20, 7), prefix=0), 999, share_prefixes=False)
    read_model(adapted(small(num_hidden_layers=1)).to(dtype)).loss_sum(row)
    assert seen == [(end, [(0, 20), (20, end)])]
