"""Every attention, Liger's kernels, the compiler and the fast path on a GPU compute the same.

In float32 against one record at a time, in bfloat16 against float64 on a CPU: packed rows may be as
far from that as the model's own forward of one record at a time is, and half as far again.
"""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch

from burnish.errors import TrainingError
from burnish.models.attention import FLASH, attention_of, prefer_flash
from burnish.training.acceleration import compiled, settle_attention, use_liger
from burnish.training.accumulation import Packing
from burnish.training.backends import check_isolation, choose_backend
from burnish.training.comparison import tolerance_of
from burnish.training.loss import PLAIN
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack, pad_row
from burnish.training.recomputing import recomputing
from burnish.training.varlen import VARLEN, use_varlen
from tests.training.family import (
    FAMILY,
    adapted,
    build,
    by_rows,
    num_supervised,
    one_by_one,
    records,
    worst_difference,
)
from tests.training.test_backends import leak  # noqa: F401  a fixture

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
RECORDS = records((5, 40, 70, 9, 130, 33))
WIDE = {"hidden_size": 256, "intermediate_size": 384, "num_attention_heads": 4}
"""Heads of 64, as the kernels like them; two key heads."""

needs_flash = pytest.mark.skipif(
    importlib.util.find_spec("flash_attn") is None, reason="flash-attn is not installed"
)
needs_liger = pytest.mark.skipif(
    importlib.util.find_spec("liger_kernel") is None, reason="liger-kernel is not installed"
)
FLASHES = pytest.param(FLASH, marks=needs_flash)
KERNELS = ["eager", "sdpa", "flex_attention", VARLEN, FLASHES]


def model_on_gpu(dtype=torch.float32, attention="sdpa", kind="Llama", **changes):
    model = adapted(build(kind, **{**WIDE, **changes}).to(dtype)).to(GPU)
    if attention == VARLEN:
        use_varlen(model)
    else:
        model.get_base_model().set_attn_implementation(attention)
    return model


def rows_on_gpu(length=128, *, padded=False, share=False):
    rows = pack(RECORDS, length, share_prefixes=share)
    return [(pad_row(row, length) if padded else row).to(GPU) for row in rows]


def exact(**changes):
    """Loss and gradients in float64 on a CPU, one record at a time."""
    return one_by_one(adapted(build("Llama", **{**WIDE, **changes})).double(), RECORDS)


def on_cpu(gradients):
    return {name: gradient.cpu() for name, gradient in gradients.items()}


def assert_as_good_as_one_by_one(found, **changes):
    """In bfloat16: no farther from the exact result than one record at a time, and half again."""
    loss, gradients = exact(**changes)
    own_loss, own = one_by_one(model_on_gpu(torch.bfloat16, "sdpa", **changes), RECORDS)
    own_error = worst_difference(on_cpu(own), gradients)
    assert worst_difference(on_cpu(found[1]), gradients) <= 1.5 * own_error
    assert abs(found[0] - loss) <= 1.5 * abs(own_loss - loss) + 1e-3 * loss


# --- attention -------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [False, True], ids=["as they come", "padded"])
@pytest.mark.parametrize("name", ["eager", "sdpa", "flex_attention"])
def test_packed_rows_equal_one_record_at_a_time_in_float32(name, padded):
    loss, gradients = exact()
    model = model_on_gpu(attention=name)
    found, packed = by_rows(model, PackedModel(model).loss_sum, rows_on_gpu(padded=padded))
    assert found == pytest.approx(loss, rel=1e-5)
    assert worst_difference(on_cpu(packed), gradients) < 1e-4


@pytest.mark.parametrize("padded", [False, True], ids=["as they come", "padded"])
@pytest.mark.parametrize("name", KERNELS)
def test_packed_rows_are_as_exact_as_one_record_at_a_time_in_bfloat16(name, padded):
    model = model_on_gpu(torch.bfloat16, name)
    found = by_rows(model, PackedModel(model).loss_sum, rows_on_gpu(padded=padded))
    assert_as_good_as_one_by_one(found)


@pytest.mark.parametrize("name", KERNELS)
def test_no_attention_lets_a_record_see_its_neighbour(name):
    model = model_on_gpu(torch.bfloat16, name)
    tolerance = tolerance_of(model)
    check_isolation(PackedModel(model).loss_sum, RECORDS, GPU, tolerance=tolerance)


def test_attention_that_ignores_boundaries_is_refused(leak):  # noqa: F811
    model = model_on_gpu(torch.bfloat16)
    model.get_base_model().set_attn_implementation(leak)
    with pytest.raises(TrainingError, match="see one another"):
        choose_backend(model, RECORDS, wanted="auto", terms=PLAIN)


@needs_flash
def test_auto_takes_flash_attention_and_keeps_it(capfd):
    model = adapted(build("Llama", **WIDE).to(GPU, torch.bfloat16))
    prefer_flash(model.get_base_model())
    assert attention_of(model) == FLASH
    settle_attention(model, RECORDS)
    assert attention_of(model) == FLASH
    assert "flash-attn computes the attention" in capfd.readouterr().err


def test_auto_takes_torchs_own_kernel_where_flash_attention_is_not_installed(capfd):
    model = model_on_gpu(torch.bfloat16)
    settle_attention(model, RECORDS)
    assert attention_of(model) == VARLEN
    assert "torch's varlen kernel computes" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["Mistral", "Gemma3"])
def test_torchs_own_kernel_sees_no_farther_than_a_window(kind):
    changes = {"sliding_window": 16, **({"head_dim": 64} if kind == "Gemma3" else {})}
    expected = one_by_one(adapted(build(kind, **WIDE, **changes)).double(), RECORDS)
    own = one_by_one(model_on_gpu(torch.bfloat16, "sdpa", kind, **changes), RECORDS)
    model = model_on_gpu(torch.bfloat16, VARLEN, kind, **changes)
    found = by_rows(model, PackedModel(model).loss_sum, rows_on_gpu())
    own_error = worst_difference(on_cpu(own[1]), expected[1])
    assert worst_difference(on_cpu(found[1]), expected[1]) <= 1.5 * own_error


@pytest.mark.parametrize("name", [VARLEN, FLASHES])
def test_attention_by_records_does_not_wait_for_the_gpu_in_every_layer(name):
    def waits(layers):
        model = model_on_gpu(torch.bfloat16, name, num_hidden_layers=layers)
        row, *_ = rows_on_gpu(256)
        PackedModel(model).loss_sum(row).backward()  # loads what it needs
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                PackedModel(model).loss_sum(row).backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing CUDA operation" in str(w.message) for w in caught)

    assert waits(2) == waits(6)


# --- Liger's kernels, the compiler -----------------------------------------------------------


@needs_liger
@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Mistral"])
def test_ligers_kernels_are_as_exact_as_the_models_own(kind):
    sizes = {"head_dim": 64} if kind == "Qwen3" else {}
    expected = one_by_one(adapted(build(kind, **WIDE, **sizes)).double(), RECORDS)
    model = model_on_gpu(kind=kind, **sizes)
    use_liger(model, True, RECORDS)
    found, gradients = by_rows(model, PackedModel(model).loss_sum, rows_on_gpu())
    assert found == pytest.approx(expected[0], rel=1e-4)
    assert worst_difference(on_cpu(gradients), expected[1]) < 1e-3


@pytest.mark.parametrize("name", ["sdpa", VARLEN, FLASHES])
@pytest.mark.parametrize("length", [128, None], ids=["rows of 128", "rows of any length"])
def test_a_compiled_forward_is_as_exact_as_the_models_own(name, length):
    model = model_on_gpu(torch.bfloat16, name)
    backend = choose_backend(model, RECORDS, wanted="transformers", terms=PLAIN)
    backend = compiled(backend, model, RECORDS, terms=PLAIN, row_length=length)
    packing = Packing(length or 128, is_on=length is not None)
    rows = [row.to(GPU) for row in packing.rows(RECORDS, backend)]
    assert_as_good_as_one_by_one(by_rows(model, backend.loss_sum, rows))


# --- the fast path ---------------------------------------------------------------------------


def test_auto_leaves_the_fast_path_to_cpus():
    backend = choose_backend(model_on_gpu(), RECORDS, wanted="auto", terms=PLAIN)
    assert (backend.name, backend.why) == (
        "transformers",
        "on a GPU the model's own kernels are faster",
    )


@pytest.mark.parametrize("recomputed", [0, 1])
@pytest.mark.parametrize("name", FAMILY)
def test_the_fast_path_is_exact_on_a_gpu_too(name, recomputed):
    kind, settings = FAMILY[name]
    expected = one_by_one(adapted(build(kind, **settings)).double(), RECORDS)
    model = adapted(build(kind, **settings)).to(GPU)
    backend = choose_backend(model, RECORDS, wanted="fast", terms=PLAIN)
    backend = recomputing(backend, model, recomputed)
    assert backend.name == "fast"
    rows = rows_on_gpu(256, share=True)
    assert any(segment.prefix for row in rows for segment in row.segments)
    found, gradients = by_rows(model, backend.loss_sum, rows)
    assert found == pytest.approx(expected[0], rel=1e-5)
    assert worst_difference(on_cpu(gradients), expected[1]) < 1e-4


def test_the_fast_path_is_as_exact_as_the_models_own_in_bfloat16():
    model = model_on_gpu(torch.bfloat16)
    backend = choose_backend(model, RECORDS, wanted="fast", terms=PLAIN)
    assert_as_good_as_one_by_one(by_rows(model, backend.loss_sum, rows_on_gpu(256, share=True)))


def test_a_row_carries_all_that_is_learned():
    rows = rows_on_gpu()
    assert sum(len(row.targets) for row in rows) == num_supervised(RECORDS)
