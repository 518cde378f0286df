"""Loading: device and dtype, base, adapter, merged; refusals."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch

from burnish.errors import MissingExtraError, ModelError, RecipeError
from burnish.models import loading
from burnish.models.loading import (
    cpu_gain_of_bf16,
    load_base,
    load_whole,
    own_dtype,
    pick_device,
    pick_dtype,
    set_threads,
)
from burnish.recipe import ModelSection


def section(folder, **more):
    return ModelSection(name_or_path=str(folder), **more)


def test_a_base_is_loaded_in_evaluation_mode_and_the_wanted_dtype(tiny_model):
    for dtype in (torch.float32, torch.bfloat16):
        model = load_base(tiny_model, section(tiny_model), dtype=dtype)
        assert model.dtype == dtype
        assert not model.training
        assert model.device.type == pick_device().type


@pytest.mark.parametrize("bf16, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_the_dtype_is_what_the_recipe_says(bf16, dtype):
    assert pick_dtype(bf16) == dtype


def test_without_a_gpu_auto_is_float32():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert pick_dtype("auto") == torch.float32


@pytest.mark.parametrize("gain, dtype", [(1.49, torch.float32), (1.5, torch.bfloat16)])
def test_a_cpu_trains_in_bfloat16_where_that_is_half_again_as_fast(gain, dtype, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(loading, "cpu_gain_of_bf16", lambda: gain)
    assert pick_dtype("auto", training=True) == dtype
    assert pick_dtype("auto") == torch.float32


def test_the_probe_compares_products_in_both_types():
    assert 0.01 < cpu_gain_of_bf16() < 100


@pytest.mark.parametrize("name", ["eager", "sdpa", "flex_attention"])
def test_the_attention_is_what_the_recipe_says(tiny_model, name):
    asked = ModelSection(name_or_path=str(tiny_model), attn_implementation=name)
    assert load_base(tiny_model, asked, dtype=torch.float32).config._attn_implementation == name


def test_an_attention_that_cannot_run_here_is_refused_and_merging_does_without_it(tiny_model):
    asked = ModelSection(name_or_path=str(tiny_model), attn_implementation="flash_attention_2")
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="flash_attention_2 can't be taken: it needs a GPU"):
            load_base(tiny_model, asked, dtype=torch.bfloat16)
    whole = load_base(tiny_model, asked, dtype=torch.float32, quantized=False)
    assert whole.config._attn_implementation == "sdpa"


def test_a_model_that_is_not_causal_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"no causal language model: .*BertForMaskedLM") as caught:
        load_base(folder, section(folder), dtype=torch.float32)
    assert "ForCausalLM" in caught.value.remedy


def test_a_model_of_an_unknown_kind_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    with pytest.raises(ModelError, match="unheard_of"):
        load_base(folder, section(folder), dtype=torch.float32)


@pytest.mark.parametrize("content", [b"", b"not tensors at all", b"\xff" * 64])
def test_broken_weights_are_told_with_their_folder(tiny_model, tmp_path, content):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="its weights can't be loaded") as caught:
        load_whole(folder, dtype=torch.float32)
    assert caught.value.where == str(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\ufeff{"])
def test_a_config_that_is_no_json_object_is_told_with_its_file(tiny_model, tmp_path, content):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_base(folder, section(folder), dtype=torch.float32)


def test_pickled_weights_are_not_loaded_unless_allowed(tiny_model, tmp_path):
    from safetensors.torch import load_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        load_base(folder, section(folder), dtype=torch.float32)
    model = load_base(folder, section(folder, allow_pickle=True), dtype=torch.float32)
    assert model.dtype == torch.float32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("width", ["load_in_8bit", "load_in_4bit"])
def test_a_quantized_base_can_be_loaded_whole_too(tiny_model, width):
    pytest.importorskip("bitsandbytes")
    wanted = section(tiny_model, **{width: True})
    small = load_base(tiny_model, wanted, dtype=torch.float32)
    assert small.is_quantized
    assert not any(getattr(m, "support_avx512bf16_for_cpu", False) for m in small.modules())
    whole = load_base(tiny_model, wanted, dtype=torch.float32, quantized=False)
    assert not getattr(whole, "is_quantized", False)


def test_without_bitsandbytes_its_extra_is_named(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"burnish\[bnb\]"):
        load_base(tiny_model, section(tiny_model, load_in_4bit=True), dtype=torch.float32)


def test_without_torch_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"burnish\[train\]"):
        pick_device()


def test_threads_follow_the_environment_and_too_many_are_told(monkeypatch, capfd):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert set_threads() == 1
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "999")
        set_threads()
        assert "warning: OMP_NUM_THREADS is 999" in capfd.readouterr().err
    finally:
        torch.set_num_threads(before)


def test_where_other_work_keeps_cores_busy_the_others_are_used_and_it_is_said_once(
    monkeypatch, capfd
):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(loading, "usable_cores", lambda: 4)
    monkeypatch.setattr(loading, "free_cores", lambda: 3)
    try:
        torch.set_num_threads(4)
        assert set_threads() == set_threads() == torch.get_num_threads() == 3
        said = capfd.readouterr().err
        assert said.count("other work keeps 1 of 4 cores busy") == 1
        assert "OMP_NUM_THREADS=4" in said
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        assert set_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", ["", "4,2", "many"])
def test_a_thread_count_that_is_no_number_is_passed_over(monkeypatch, value):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert set_threads() >= 1
    finally:
        torch.set_num_threads(before)


def test_loading_prints_nothing(tiny_model, capfd):
    load_base(tiny_model, section(tiny_model), dtype=torch.float32)
    assert capfd.readouterr().err == ""


def test_the_type_on_disk_is_read_from_the_config(tmp_path):
    for text, dtype in (
        ('{"dtype": "bfloat16"}', torch.bfloat16),
        ('{"torch_dtype": "float16"}', torch.float16),
        ("{}", torch.float32),
    ):
        (tmp_path / "config.json").write_text(text)
        assert own_dtype(tmp_path) == dtype


@pytest.mark.parametrize("name", ["float33", "Tensor", 7])
def test_a_type_that_is_none_is_refused_by_name(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"dtype": name}))
    with pytest.raises(ModelError, match=f"dtype is {name!r}, which is no type") as caught:
        own_dtype(tmp_path)
    assert caught.value.where == str(tmp_path / "config.json")
