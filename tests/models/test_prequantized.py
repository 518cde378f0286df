"""Bases that are quantized already: what is done with them, and what is refused."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from burnish.errors import ModelError
from burnish.models import prequantized
from burnish.models.gptq_layout import pack
from burnish.models.loading import load_base
from burnish.models.prequantized import must_dequantize, quantization_of
from burnish.recipe import ModelSection
from tests.conftest import byte_tokenizer, tiny_llama
from tests.training.test_methods import check_whole_way, prepared

SCALE = 0.01


def folder_of(tmp_path, kind):
    config = {"quantization_config": {"quant_method": kind}} if kind else {}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def without(monkeypatch, *packages):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        prequantized.importlib.util,
        "find_spec",
        lambda name: None if name in packages else real(name),
    )


@pytest.fixture
def gptq_model(tmp_path):
    """A tiny model whose up_proj of layer 0 holds the integers -8 … 7, again and again."""
    model = tiny_llama(3 + 256)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    state = {k: v.clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    linears = [n for n, m in model.named_modules() if type(m) is torch.nn.Linear and "." in n]
    for name in linears:
        shape = state.pop(f"{name}.weight").shape
        integers = torch.arange(shape.numel()).reshape(shape) % 16 - 8
        scales = torch.full((shape[0], 1), SCALE)
        packed = pack(integers, scales, torch.zeros(shape[1], dtype=torch.int32), 4)
        state |= {f"{name}.{kind}": tensor for kind, tensor in packed.items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": -1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(("kind", "found"), [(None, None), ("gptq", "gptq"), ("AWQ", "awq")])
def test_the_kind_is_read_from_the_config(tmp_path, kind, found):
    assert quantization_of(folder_of(tmp_path, kind)) == found


def test_a_whole_base_is_left_as_it_is(tmp_path):
    assert must_dequantize(folder_of(tmp_path, None), ModelSection(), whole=False) is False


def test_a_second_quantization_is_refused(tmp_path):
    with pytest.raises(ModelError, match="quantized by gptq already") as caught:
        must_dequantize(folder_of(tmp_path, "gptq"), ModelSection(load_in_4bit=True), whole=False)
    assert "model.load_in_4bit: false" in caught.value.remedy


def test_a_gptq_base_is_dequantized_without_its_kernels_and_that_is_said(
    tmp_path, monkeypatch, capfd
):
    without(monkeypatch, "gptqmodel")
    assert must_dequantize(folder_of(tmp_path, "gptq"), ModelSection(), whole=False)
    assert "gptqmodel" in capfd.readouterr().err


def test_a_gptq_base_is_dequantized_to_be_merged_into(tmp_path):
    assert must_dequantize(folder_of(tmp_path, "gptq"), ModelSection(), whole=True)


def test_an_awq_base_without_its_package_is_refused(tmp_path, monkeypatch):
    without(monkeypatch, "gptqmodel")
    with pytest.raises(ModelError, match="needs the package gptqmodel"):
        must_dequantize(folder_of(tmp_path, "awq"), ModelSection(), whole=False)


def test_nothing_is_merged_into_an_awq_base(tmp_path):
    with pytest.raises(ModelError, match="none to merge an adapter into") as caught:
        must_dequantize(folder_of(tmp_path, "awq"), ModelSection(), whole=True)
    assert "serve.artifact: adapter" in caught.value.remedy


def test_a_gptq_base_is_loaded_with_the_values_that_its_integers_stand_for(gptq_model, monkeypatch):
    without(monkeypatch, "gptqmodel")
    section = ModelSection(name_or_path=str(gptq_model))
    base = load_base(gptq_model, section, dtype=torch.float32)
    layer = base.model.layers[0].mlp.up_proj
    assert type(layer) is torch.nn.Linear
    wanted = (torch.arange(64 * 32).reshape(64, 32) % 16 - 8) * SCALE
    torch.testing.assert_close(layer.weight, wanted, atol=1e-5, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_trained_on_a_gptq_base_and_merged_into_its_own_values(
    gptq_model, tmp_path_factory, monkeypatch
):
    from safetensors.torch import load_file

    without(monkeypatch, "gptqmodel")
    loaded, run = prepared(tmp_path_factory.mktemp("run"), gptq_model, {})
    check_whole_way(loaded, run)
    config = json.loads((run.merged / "config.json").read_text())
    assert "quantization_config" not in config
    name = "model.layers.0.mlp.up_proj.weight"
    update = load_file(run.merged / "model.safetensors")[name]
    update = update - (torch.arange(64 * 32).reshape(64, 32) % 16 - 8) * SCALE
    assert torch.linalg.matrix_rank(update, tol=1e-3) == 2
