"""The choice of attention: flash-attn where it can run, and never in place of what can't be had."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from burnish.errors import RecipeError
from burnish.models.attention import (
    FLASH,
    attention_of,
    check_attention,
    leave_flash,
    prefer_flash,
)
from tests.conftest import tiny_llama

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def machine(monkeypatch):
    """A machine with an H100 and flash-attn, as far as anyone asks; a test takes away from it."""

    def have(capability=(9, 0), installed=True):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: installed)

    have()
    return have


class Model:
    """What `prefer_flash` asks a model for."""

    _supports_flash_attn = True
    device, dtype = GPU, torch.bfloat16

    def __init__(self, *, head_dim=128, error=None, **changes):
        text = SimpleNamespace(hidden_size=4096, num_attention_heads=32, head_dim=head_dim)
        self.config = SimpleNamespace(get_text_config=lambda: text)
        self.taken, self.error = [], error
        for name, value in changes.items():
            setattr(self, name, value)

    def set_attn_implementation(self, name):
        if self.error:
            raise self.error
        self.taken.append(name)


# --- asked for -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", "eager", "sdpa", "flex_attention"])
def test_other_attentions_run_anywhere(name):
    check_attention(name, CPU, torch.float32)


def test_flash_attention_runs_on_a_gpu_in_16_bits(machine):
    for dtype in (torch.bfloat16, torch.float16):
        check_attention(FLASH, GPU, dtype)


@pytest.mark.parametrize(
    "device, dtype, have, why",
    [
        (CPU, torch.bfloat16, {}, "it needs a GPU"),
        (GPU, torch.bfloat16, {"capability": (7, 5)}, "it needs a GPU of the Ampere generation"),
        (GPU, torch.float32, {}, "it computes in bfloat16 or float16, not in float32"),
        (GPU, torch.bfloat16, {"installed": False}, "the package flash-attn is not installed"),
    ],
)
def test_flash_attention_that_cannot_run_is_refused_with_the_reason(
    machine, device, dtype, have, why
):
    machine(**have)
    with pytest.raises(RecipeError, match=f"flash_attention_2 can't be taken: {why}") as caught:
        check_attention(FLASH, device, dtype)
    assert (caught.value.where, caught.value.remedy) == (
        "model.attn_implementation",
        "Set auto or sdpa.",
    )


# --- auto ------------------------------------------------------------------------------------


def test_auto_takes_flash_attention_where_gpu_type_package_and_model_allow_it(machine):
    model = Model()
    prefer_flash(model)
    assert model.taken == [FLASH]


@pytest.mark.parametrize(
    "have, changes",
    [
        ({}, {"device": CPU}),
        ({}, {"dtype": torch.float32}),
        ({}, {"_supports_flash_attn": False}),
        ({}, {"head_dim": 257}),
        # transformers would fetch such a kernel from a hub instead.
        ({}, {"_compatible_flash_implementations": ["kernels-community/vllm-flash-attn3"]}),
        ({}, {"error": ImportError("flash_attn_2_cuda.so: undefined symbol")}),
        ({"installed": False}, {}),
        ({"capability": (7, 0)}, {}),
    ],
    ids=str,
)
def test_auto_leaves_the_attention_alone_where_flash_attention_does_not_fit(machine, have, changes):
    machine(**have)
    model = Model(**changes)
    prefer_flash(model)
    assert model.taken == []


def test_the_width_of_a_head_follows_from_the_hidden_size_where_it_is_not_named(machine):
    for heads, taken in ((16, [FLASH]), (8, [])):  # 4096 / 16 = 256, 4096 / 8 = 512
        model = Model(head_dim=None)
        model.config.get_text_config().num_attention_heads = heads
        prefer_flash(model)
        assert model.taken == taken


def test_on_a_cpu_a_model_keeps_the_librarys_choice():
    model = tiny_llama(32)
    before = attention_of(model)
    prefer_flash(model)
    assert attention_of(model) == before == "sdpa"


# --- and away again --------------------------------------------------------------------------


def test_a_model_leaves_flash_attention_for_sdpa_or_for_eager_where_it_has_no_sdpa():
    model = tiny_llama(32)
    model.config._attn_implementation_internal = FLASH
    assert attention_of(model) == FLASH
    assert leave_flash(model) == attention_of(model) == "sdpa"
    model = Model(_supports_sdpa=False)
    assert leave_flash(model) == "eager"
    assert model.taken == ["eager"]
