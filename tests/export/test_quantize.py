"""Quantizing: whole models of several kinds, saved, reloaded and compared."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from burnish.errors import ExportError, RecipeError
from burnish.export.layers import decoder_layers, linear_names
from burnish.export.merge import merge
from burnish.export.quantize import fitting_group_size, quantize
from burnish.models.loading import load_quantized, load_whole
from burnish.recipe import MergeSection, QuantizeSection
from burnish.run_dir import RunDir
from tests.conftest import tiny_llama
from tests.export.conftest import save_model, tuned_run

VOCAB = 259

SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}


def make(kind):
    torch.manual_seed(0)
    t = transformers
    if kind == "llama_untied":
        return tiny_llama(VOCAB, tie_word_embeddings=False)
    if kind == "llama_tied":
        return tiny_llama(VOCAB)
    if kind == "qwen2":
        model = t.Qwen2ForCausalLM(t.Qwen2Config(**GROUPED))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.5)
        return model
    if kind == "gemma3":
        extra = {
            "head_dim": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        }
        return t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GROUPED, **extra))
    if kind == "phi3":
        return t.Phi3ForCausalLM(t.Phi3Config(**GROUPED))
    if kind == "gpt_neox":
        return t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SMALL))
    raise AssertionError(kind)


@pytest.fixture(scope="module")
def merged(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("quantize")
    loaded = tuned_run(folder, tiny_model)
    merge(loaded.recipe.model, MergeSection(), RunDir(loaded.run_dir))
    return loaded.recipe.model, RunDir(loaded.run_dir)


def small(**changes):
    return QuantizeSection(**{"num_samples": 8, "group_size": 32, **changes})


@pytest.mark.parametrize(
    "kind", ["llama_tied", "llama_untied", "qwen2", "gemma3", "phi3", "gpt_neox"]
)
def test_models_of_many_kinds_are_merged_quantized_and_reloaded(tmp_path, kind):
    base = save_model(make(kind), tmp_path / "base")
    loaded = tuned_run(tmp_path, base)
    run = RunDir(loaded.run_dir)
    parity = merge(loaded.recipe.model, MergeSection(), run)
    assert parity.kl_divergence < 1e-6
    report = quantize(loaded.recipe.model, small(), run)
    assert report.quantized_loss == pytest.approx(report.merged_loss, abs=0.05)
    whole = load_whole(run.merged, dtype=torch.float32)
    reloaded = load_quantized(run.quantized, dtype=torch.float32)
    ids = torch.tensor([[1, 20, 30, 40, 2]])
    with torch.no_grad():
        logits = [model(input_ids=ids).logits.double() for model in (whole, reloaded)]
    # In float32, rounding alone can make a divergence as small as this one negative.
    first, second = logits
    kl = torch.nn.functional.kl_div(
        second.log_softmax(-1), first.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert 0 < float(kl) / 5 < 0.02
    state = load_file(run.quantized / "model.safetensors")
    names = [f"{n}" for n, _ in whole.named_modules() if f"{n}.qweight" in state]
    assert len(names) == 2 * len(linear_names(decoder_layers(whole)[0]))
    tied = bool(getattr(whole.config, "tie_word_embeddings", False))
    assert ("lm_head.weight" in state or "embed_out.weight" in state) is not tied


@pytest.mark.parametrize("kind", ["qwen2"])
def test_biases_of_layers_are_kept(tmp_path, kind):
    base = save_model(make(kind), tmp_path / "base")
    loaded = tuned_run(tmp_path, base, bias="all")
    run = RunDir(loaded.run_dir)
    merge(loaded.recipe.model, MergeSection(), run)
    quantize(loaded.recipe.model, small(), run)
    name = "model.layers.0.self_attn.q_proj.bias"
    merged_bias = load_file(run.merged / "model.safetensors")[name]
    base_bias = load_file(base / "model.safetensors")[name]
    kept = load_file(run.quantized / "model.safetensors")[name]
    assert not torch.equal(merged_bias, base_bias)
    torch.testing.assert_close(kept, merged_bias.half())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("desc_act", [False, True])
@pytest.mark.parametrize("group_size", [-1, 16, 32])
def test_every_width_group_and_order_reads_back(merged, bits, desc_act, group_size):
    model, run = merged
    report = quantize(model, small(bits=bits, desc_act=desc_act, group_size=group_size), run)
    assert (report.bits, report.desc_act, report.group_size) == (bits, desc_act, group_size)
    assert report.quantized_loss == pytest.approx(report.merged_loss, abs=0.05)
    state = load_file(run.quantized / "model.safetensors")
    g_idx = state["model.layers.0.mlp.down_proj.g_idx"].tolist()
    size = 64 if group_size == -1 else group_size
    assert sorted(g_idx) == [i // size for i in range(64)]
    if not desc_act:
        assert g_idx == [i // size for i in range(64)]
    config = json.loads((run.quantized / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "gptq"
    assert (config["bits"], config["group_size"]) == (bits, group_size)
    assert (config["desc_act"], config["sym"]) == (desc_act, True)
    gate = json.loads((run.folder("quantize") / "gate.json").read_text())
    assert gate["quantized/validation/loss"] == report.quantized_loss


def test_8_bits_are_closer_than_4(merged):
    model, run = merged
    gaps = {}
    for bits in (4, 8):
        report = quantize(model, small(bits=bits), run)
        gaps[bits] = abs(report.quantized_loss - report.merged_loss)
    assert gaps[8] < 1e-3
    assert gaps[8] <= gaps[4] + 1e-4  # a tiny model of random weights loses hardly anything


def test_a_group_size_that_does_not_fit_is_lowered_aloud(merged, capfd):
    model, run = merged
    report = quantize(model, small(group_size=256), run)
    assert report.group_size == 32
    said = " ".join(capfd.readouterr().err.split())
    assert (
        "warning: group_size 256 does not divide this model's widths (32, 64); 32 is used" in said
    )


def layer_of(*shapes):
    return torch.nn.ModuleList([torch.nn.Linear(i, o, bias=False) for i, o in shapes])


def test_widths_that_no_group_divides_are_refused():
    with pytest.raises(RecipeError, match=r"no group size divides the widths \[24, 100\]"):
        fitting_group_size(QuantizeSection(bits=8), [layer_of((24, 8), (100, 8))])


def test_widths_that_fill_no_whole_word_are_refused():
    with pytest.raises(RecipeError, match="width 12, which is no multiple of 8"):
        fitting_group_size(QuantizeSection(), [layer_of((64, 12))])
    with pytest.raises(RecipeError, match="width 30"):
        fitting_group_size(QuantizeSection(bits=8, group_size=-1), [layer_of((30, 8))])


def test_576_takes_64_of_128():
    assert fitting_group_size(QuantizeSection(), [layer_of((576, 64), (1536, 64))]) == 64


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_a_model_without_linear_layers_is_refused(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=512, eos_token_id=2
    )
    base = save_model(transformers.GPT2LMHeadModel(config), tmp_path / "base")
    loaded = tuned_run(tmp_path, base, target_modules="[c_attn]")
    run = RunDir(loaded.run_dir)
    merge(loaded.recipe.model, MergeSection(), run)
    with pytest.raises(ExportError, match="no plain linear layers"):
        quantize(loaded.recipe.model, small(), run)


def test_weights_that_do_not_read_back_are_refused_and_the_old_model_stays(merged, monkeypatch):
    from burnish.models import gptq_layout

    model, run = merged
    quantize(model, small(), run)
    before = (run.quantized / "model.safetensors").read_bytes()
    original = gptq_layout.pack

    def harmed(*args):
        tensors = original(*args)
        tensors["qweight"] = tensors["qweight"].clone()
        tensors["qweight"][0, 0] ^= 1
        return tensors

    monkeypatch.setattr(gptq_layout, "pack", harmed)
    with pytest.raises(ExportError, match=r"layer 0, self_attn\.q_proj: the saved weights do not"):
        quantize(model, small(), run)
    assert (run.quantized / "model.safetensors").read_bytes() == before
