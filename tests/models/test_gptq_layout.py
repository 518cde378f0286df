"""The AutoGPTQ layout: packing, unpacking and reading a checkpoint back."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import ModelError
from burnish.models.gptq_layout import load_dequantized, pack, unpack


@given(
    bits=st.sampled_from([4, 8]),
    words_in=st.integers(1, 4),
    words_out=st.integers(1, 4),
    num_groups=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_what_is_packed_is_unpacked(bits, words_in, words_out, num_groups, seed):
    generator = torch.Generator().manual_seed(seed)
    per_word, low = 32 // bits, -(1 << (bits - 1))
    height, width = words_out * per_word, words_in * per_word
    integers = torch.randint(low, -low, (height, width), generator=generator)
    scales = torch.rand(height, num_groups, generator=generator).half().float() + 0.5
    scales = scales.half().float()
    g_idx = torch.randint(0, num_groups, (width,), generator=generator)
    packed = pack(integers.to(torch.int8), scales, g_idx, bits)
    assert packed["qweight"].shape == (words_in, height)
    assert packed["qzeros"].shape == (num_groups, words_out)
    assert packed["qweight"].dtype == packed["qzeros"].dtype == packed["g_idx"].dtype == torch.int32
    assert torch.equal(unpack(packed, bits), integers * scales[:, g_idx])


def test_words_are_laid_out_as_autogptq_does():
    integers = torch.zeros(8, 8, dtype=torch.int8)
    integers[0] = torch.tensor([-8, -7, 0, 1, 7, -1, 2, 3])
    packed = pack(integers, torch.ones(8, 1), torch.zeros(8), 4)
    # Plus 8 these are 0 1 8 9 f 7 a b, the first in the lowest bits.
    assert packed["qweight"][0, 0].item() & 0xFFFFFFFF == 0xBA7F9810
    assert packed["qweight"][0, 1].item() & 0xFFFFFFFF == 0x88888888
    # The zero point 8 is stored as 7.
    assert packed["qzeros"][0, 0].item() == 0x77777777


def test_the_second_version_of_the_layout_stores_zero_points_as_they_are():
    integers = torch.arange(-8, 8, dtype=torch.int8).repeat(8, 1)
    packed = pack(integers, torch.ones(8, 1), torch.zeros(16), 4)
    packed["qzeros"] = torch.full_like(packed["qzeros"], -0x77777778)  # 0x88888888
    assert torch.equal(unpack(packed, 4, zero_offset=0), integers.float())


def test_a_model_that_is_not_gptq_is_refused(tiny_model):
    with pytest.raises(ModelError, match="not quantized by GPTQ"):
        load_dequantized(tiny_model, dtype=torch.float32)


def test_tensors_that_do_not_fit_the_config_are_refused(tmp_path, tiny_model):
    from safetensors.torch import load_file, save_file

    config = json.loads((tiny_model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = load_file(tiny_model / "model.safetensors")
    missing = dict(state)
    del missing["model.norm.weight"]
    save_file(missing, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"don't fit its config: \['model\.norm\.weight'\]"):
        load_dequantized(tmp_path, dtype=torch.float32)
    save_file({**state, "strange": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="strange"):
        load_dequantized(tmp_path, dtype=torch.float32)
    save_file(state, tmp_path / "model.safetensors")
    model = load_dequantized(tmp_path, dtype=torch.float32)
    assert torch.equal(model.state_dict()["model.norm.weight"], state["model.norm.weight"])
