"""What makes a model faster is taken only if it computes the same; here on a CPU, with stand-ins.

The kernels themselves are compared where there is a GPU (tests/gpu).
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import MethodType, ModuleType

import pytest
import torch
from transformers import AttentionInterface
from transformers.models.llama import modeling_llama

from burnish.errors import TrainingError
from burnish.models.attention import FLASH, attention_of
from burnish.training import acceleration
from burnish.training.acceleration import compiled, settle_attention, use_liger
from burnish.training.accumulation import Packing
from burnish.training.backends import choose_backend
from burnish.training.journal import METRICS_NAME
from burnish.training.loss import PLAIN, LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from burnish.training.recomputing import recomputing
from tests.training.family import adapted, build, by_rows, one_by_one, records, worst_difference
from tests.training.test_backends import leaking
from tests.training.test_packed_model import flash, take_flash  # noqa: F401  a fixture
from tests.training.test_train import go, prepared

RECORDS = records((9, 40, 70, 12))


def loss_of(model):
    (row,) = pack(RECORDS, 999, share_prefixes=False)
    with torch.no_grad():
        return float(PackedModel(model).loss_sum(row))


# --- flash-attn ------------------------------------------------------------------------------


def test_flash_attention_that_keeps_records_apart_stays(flash, capfd):  # noqa: F811
    model = adapted(build("Llama"))
    take_flash(model)
    settle_attention(model, RECORDS)
    assert attention_of(model) == FLASH
    assert "flash-attn computes the attention" in capfd.readouterr().err


def refuse(module, query, key, value, attention_mask, **rest):
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nmore")


@pytest.mark.parametrize(
    "attention, said",
    [(leaking, "the records of a row see one another"), (refuse, "only supports Ampere GPUs")],
)
def test_flash_attention_that_leaks_or_fails_makes_way_for_sdpa(
    attention, said, monkeypatch, capfd
):
    monkeypatch.setitem(AttentionInterface._global_mapping, FLASH, attention)
    model = adapted(build("Llama"))
    expected, _ = one_by_one(model, RECORDS)
    take_flash(model)
    settle_attention(model, RECORDS)
    assert attention_of(model) == "sdpa"
    told = capfd.readouterr().err
    assert "sdpa takes the place of flash-attn" in told
    assert said in told
    assert one_by_one(model, RECORDS)[0] == expected


def test_another_attention_is_not_asked(monkeypatch):
    monkeypatch.setattr(acceleration, "check_isolation_of", None)
    settle_attention(adapted(build("Llama")), RECORDS)


# --- Liger's kernels -------------------------------------------------------------------------


def on_gpu(monkeypatch):
    monkeypatch.setattr(acceleration, "device_of", lambda model: torch.device("cuda"))
    monkeypatch.setattr(acceleration, "pick_device", lambda: torch.device("cuda"))


@pytest.fixture
def liger(monkeypatch):
    """Stands in for liger-kernel on a GPU: norms and its source are changed as it does."""
    package = ModuleType("liger_kernel")
    package.__spec__ = ModuleSpec("liger_kernel", None)
    patch = ModuleType("liger_kernel.transformers.monkey_patch")
    patch.told, patch.offset, patch.error = [], 0.0, None

    def norm(module, x):
        patch.told.append("norm")
        n = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        return (n * (module.offset + module.weight)).to(x.dtype)

    def apply(model, **settings):
        patch.told.append(settings)
        if patch.error:
            raise patch.error
        modeling_llama.LlamaRMSNorm = modeling_llama.LlamaMLP = None
        for module in model.modules():
            if isinstance(module, own):
                module.offset = patch.offset
                module.forward = MethodType(norm, module)

    own = modeling_llama.LlamaRMSNorm
    for name in ("LlamaRMSNorm", "LlamaMLP"):
        monkeypatch.setattr(modeling_llama, name, getattr(modeling_llama, name))  # put back at last
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": apply}
    patch._apply_liger_kernel_to_instance = apply
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", ModuleType("transformers"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", patch)
    on_gpu(monkeypatch)
    return patch


@pytest.mark.parametrize("wanted", ["auto", True])
def test_kernels_that_compute_the_same_are_used_without_their_cross_entropy(liger, wanted, capfd):
    model = adapted(build("Llama"))
    before = loss_of(model)
    use_liger(model, wanted, RECORDS)
    left_out = {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
    assert liger.told[0] == left_out
    assert "Liger's kernels compute norms" in capfd.readouterr().err
    liger.told.clear()
    assert loss_of(model) == pytest.approx(before, rel=1e-6)
    assert liger.told == ["norm"] * 5  # two of each of both layers, and the last


def test_models_to_come_have_their_own_norms_and_mlps_again(liger):
    use_liger(adapted(build("Llama")), True, RECORDS)
    liger.told.clear()
    assert loss_of(adapted(build("Llama"))) > 0
    assert liger.told == []


def test_kernels_that_compute_something_else_are_taken_out_again(liger, capfd):
    liger.offset = 1.0  # the norm of Gemma in place of Llama's
    model = adapted(build("Llama"))
    before = loss_of(model)
    state = {name: set(vars(module)) for name, module in model.named_modules()}
    use_liger(model, "auto", RECORDS)
    assert loss_of(model) == before
    assert {name: set(vars(module)) for name, module in model.named_modules()} == state
    said = capfd.readouterr().err
    assert "Liger's kernels are not used: its loss is" in said
    with pytest.raises(TrainingError, match=r"can't be used: its loss is .* where the model's"):
        use_liger(model, True, RECORDS)


def test_kernels_made_for_another_transformers_are_left_out(liger, capfd):
    liger.error = AttributeError("module 'modeling_llama' has no attribute 'LlamaMLP'")
    model = adapted(build("Llama"))
    before = loss_of(model)
    use_liger(model, "auto", RECORDS)
    assert loss_of(model) == before
    assert "this version fails here (module 'modeling_llama' has no" in capfd.readouterr().err


def test_a_kind_of_model_without_kernels_is_named(liger, capfd):
    use_liger(adapted(build("GPTNeoX", num_key_value_heads=None)), "auto", RECORDS)
    assert "Liger's kernels are not used: there are none for gpt_neox" in capfd.readouterr().err


def test_kernels_that_are_not_installed_are_said_on_a_gpu_alone(monkeypatch, capfd):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = adapted(build("Llama"))
    use_liger(model, "auto", RECORDS)
    assert capfd.readouterr().err == ""
    with pytest.raises(TrainingError, match="Liger's kernels can't be used: they need a GPU"):
        use_liger(model, True, RECORDS)
    on_gpu(monkeypatch)
    use_liger(model, "auto", RECORDS)
    assert "not used: the package liger-kernel is not installed" in capfd.readouterr().err


def test_weights_that_are_to_be_spread_get_none_and_that_is_said(liger, monkeypatch, capfd):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    model = adapted(build("Llama"))
    use_liger(model, "auto", RECORDS)
    assert "not used: they are not tried out on weights that are spread" in capfd.readouterr().err
    with pytest.raises(TrainingError, match="can't be used: they are not tried out on weights"):
        use_liger(model, True, RECORDS)
    assert liger.told == []


def test_the_recipe_may_leave_the_kernels_out(liger):
    use_liger(adapted(build("Llama")), False, RECORDS)
    assert liger.told == []


# --- torch.compile ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def fresh_compiler():
    """What one test compiled shall not count for the next one."""
    yield
    torch._dynamo.reset()


def own_forward(model, terms=PLAIN):
    return choose_backend(model, RECORDS, wanted="transformers", terms=terms)


@pytest.fixture
def counted(monkeypatch):
    """torch.compile without a compiler behind it; counts how often it would have compiled."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    return counter


def assert_as_exact(backend, model, rows, expected):
    loss, gradients = expected
    packed, packed_gradients = by_rows(model, backend.loss_sum, rows)
    assert packed == pytest.approx(loss, rel=1e-5)
    assert worst_difference(packed_gradients, gradients) < 1e-4


@pytest.mark.parametrize("kind", ["Llama", pytest.param("Gemma2", marks=pytest.mark.slow)])
def test_rows_of_one_length_are_compiled_once_and_give_the_same(counted, kind):
    sliding = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    changes = {"head_dim": 8, "final_logit_softcapping": 2.0, **sliding}
    model = adapted(build(kind, **(changes if kind == "Gemma2" else {})))
    expected = one_by_one(model, RECORDS)
    terms = LossTerms()
    backend = compiled(own_forward(model), model, RECORDS, terms=terms, row_length=96)
    assert (backend.name, backend.static_rows) == ("transformers", True)
    rows = Packing(96).rows(RECORDS, backend)
    assert [len(row) for row in rows] == [96, 96]
    by_rows(model, backend.loss_sum, rows)
    before = counted.frame_count
    assert_as_exact(backend, model, rows, expected)
    assert counted.frame_count == before


@pytest.mark.slow
def test_rows_of_any_length_are_compiled_once_too(counted):
    model = adapted(build("Llama"))
    expected = one_by_one(model, RECORDS)
    terms = LossTerms()
    backend = compiled(own_forward(model), model, RECORDS, terms=terms, row_length=None)
    assert not backend.static_rows
    before = counted.frame_count
    rows = Packing(96, is_on=False).rows(RECORDS, backend)
    assert sorted(len(row) for row in rows) == [9, 32, 60, 70]
    assert_as_exact(backend, model, rows, expected)
    assert counted.frame_count == before


@pytest.mark.slow
def test_layers_of_a_compiled_forward_may_recompute(counted):
    model = adapted(build("Llama"))
    expected = one_by_one(model, RECORDS)
    backend = compiled(own_forward(model), model, RECORDS, terms=PLAIN, row_length=96)
    backend = recomputing(backend, model, 1)
    model.train()  # only then do they
    rows = Packing(96).rows(RECORDS, backend)
    assert_as_exact(backend, model, rows, expected)


def test_what_is_added_to_the_loss_is_added_to_a_compiled_forwards_too(counted):
    model, terms = adapted(build("Llama")), LossTerms(0.1, 0.01)
    backend = compiled(own_forward(model, terms), model, RECORDS, terms=terms, row_length=96)
    row, *_ = Packing(96).rows(RECORDS, backend)
    torch.testing.assert_close(backend.loss_sum(row), PackedModel(model).loss_sum(row, terms))


@pytest.mark.slow
def test_a_run_with_a_compiled_forward_learns_the_same(counted, tmp_path, tiny_model):
    def losses(name, **settings):
        settings |= {"num_train_epochs": 2, "row_length": 256, "lora": {"r": 2}}
        report, run = go(prepared(tmp_path / name, tiny_model, settings))
        lines = (run.folder("train") / METRICS_NAME).read_text().splitlines()
        logged = [json.loads(line).get("train/loss") for line in lines]
        return [*filter(None, logged), report.validation_loss]

    expected = losses("plain", backend="transformers")
    assert counted.frame_count == 0
    found = losses("compiled", torch_compile=True)
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(found) == 9  # four steps an epoch, and the evaluation
    assert counted.frame_count > 0


@pytest.mark.slow
def test_the_real_compiler_gives_the_same_loss_and_gradients():
    model = adapted(build("Llama"))
    expected = one_by_one(model, RECORDS)
    backend = compiled(own_forward(model), model, RECORDS, terms=PLAIN, row_length=96)
    rows = Packing(96).rows(RECORDS, backend)
    assert_as_exact(backend, model, rows, expected)


def test_a_compiled_forward_that_computes_something_else_is_refused(monkeypatch):
    def wrong(function, **_):
        def run(module, **inputs):
            output = function(module, **inputs)
            output.last_hidden_state = output.last_hidden_state * 1.1
            return output

        return run

    monkeypatch.setattr(torch, "compile", wrong)
    model = adapted(build("Llama"))
    with pytest.raises(TrainingError, match="the compiled model computes something else: its loss"):
        compiled(own_forward(model), model, RECORDS, terms=PLAIN, row_length=96)


def test_a_machine_that_cannot_compile_is_told_what_it_needs(monkeypatch):
    def fail(function, **_):
        def run(module, **inputs):
            raise torch._dynamo.exc.InternalTorchDynamoError("No working C++ compiler found.\n…")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    model = adapted(build("Llama"))
    with pytest.raises(
        TrainingError, match=r"be compiled here: No working C\+\+ compiler"
    ) as caught:
        compiled(own_forward(model), model, RECORDS, terms=PLAIN, row_length=96)
    assert caught.value.where == "train.torch_compile"
    assert "Triton" in caught.value.remedy
    assert all(p.grad is None for p in model.parameters())
