"""Which backend is taken, and that nothing which leaks or differs is."""

from __future__ import annotations

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from burnish.errors import TrainingError
from burnish.training import backends
from burnish.training.backends import check_isolation, choose_backend
from burnish.training.loss import PLAIN, LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from tests.training.family import FAMILY, OTHERS, adapted, build, by_rows, one_by_one, records

RECORDS = records((9, 40, 70, 12))
CPU = torch.device("cpu")


def choose(model, wanted="auto", *, given=RECORDS, terms=PLAIN, **rest):
    return choose_backend(model, given, wanted=wanted, terms=terms, **rest)


def leaking(module, query, key, value, attention_mask, **rest):
    """Attention that looks at the order of tokens alone, not at the mask."""
    rest["is_causal"] = True
    return sdpa_attention_forward(module, query, key, value, None, **rest)


@pytest.fixture
def leak():
    AttentionInterface.register("leaking", leaking)
    AttentionMaskInterface.register("leaking", sdpa_mask)
    yield "leaking"
    for interface in (AttentionInterface, AttentionMaskInterface):
        interface._global_mapping.pop("leaking")


# --- the choice ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_takes_the_fast_path(name):
    kind, settings = FAMILY[name]
    backend = choose(adapted(build(kind, **settings)))
    assert (backend.name, backend.shares_prefixes, backend.why) == ("fast", True, "")


@pytest.mark.parametrize("name", OTHERS)
def test_others_take_their_own_forward_and_the_reason_is_said(name):
    kind, settings = OTHERS[name]
    backend = choose(adapted(build(kind, **settings)))
    assert (backend.name, backend.shares_prefixes) == ("transformers", False)
    assert backend.why.startswith(("its ", "it has ", "some of its layers"))


@pytest.mark.parametrize("name", OTHERS)
def test_others_learn_by_their_own_forward_without_any_change(name):
    kind, settings = OTHERS[name]
    model = adapted(build(kind, **settings))
    backend = choose(model)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    rows = pack(RECORDS, 128, share_prefixes=False)
    before, _ = one_by_one(model, RECORDS)
    for step in range(6):
        loss = sum(backend.loss_sum(row) for row in rows) / sum(len(r.targets) for r in rows)
        if step == 0:
            assert float(loss.detach()) == pytest.approx(before, rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after, _ = one_by_one(model, RECORDS)
    assert after < before - 0.1


def test_the_recipe_may_ask_for_the_models_own_forward():
    backend = choose(adapted(build("Llama")), "transformers")
    assert (backend.name, backend.why) == ("transformers", "the recipe says so")


def test_a_fast_path_that_is_asked_for_and_cannot_be_taken_is_an_error():
    with pytest.raises(TrainingError, match="can't be taken: its attention has other parts"):
        choose(adapted(build("Phi3")), "fast")


def test_a_gpu_keeps_its_own_kernels(monkeypatch):
    monkeypatch.setattr(backends, "device_of", lambda model: torch.device("cuda"))
    assert "GPU" in backends._against_fast_path(None, "auto")
    assert backends._against_fast_path(None, "fast") == ""


@pytest.mark.parametrize("name", ["fast", "transformers"])
def test_what_is_added_to_the_loss_reaches_either_backend(name):
    model, terms = adapted(build("Llama")).double(), LossTerms(0.1, 0.01)
    (row,) = pack(RECORDS, 999, share_prefixes=False)
    backend = choose(model, name, terms=terms)
    torch.testing.assert_close(backend.loss_sum(row), PackedModel(model).loss_sum(row, terms))


# --- the comparison --------------------------------------------------------------------------


def test_a_wrong_formula_is_found_by_comparison(monkeypatch):
    original = backends.read_model

    def wrong(model):
        # The one-off of Gemma's norms, which the names of its parts don't tell.
        parts = original(model)
        return type(parts)(
            parts.embedding, parts.layers, parts.rotary, (1 + parts.norm[0], 1e-6), parts.head
        )

    monkeypatch.setattr(backends, "read_model", wrong)
    backend = choose(adapted(build("Llama")))
    assert backend.name == "transformers"
    assert "where the model's own is" in backend.why
    with pytest.raises(TrainingError, match="where the model's own is"):
        choose(adapted(build("Llama")), "fast")


def test_another_activation_under_the_same_names_is_found_by_comparison():
    model = build("Llama")
    for block in model.model.layers:
        block.mlp.act_fn = torch.nn.GELU()  # the config still says SiLU
    backend = choose(adapted(model))
    assert backend.name == "transformers"
    assert "its gradients differ by" in backend.why


def test_layers_without_positions_are_found_by_comparison():
    backend = choose(adapted(build("SmolLM3", no_rope_layers=[1, 0])))
    assert backend.name == "transformers"
    assert "its gradients differ by" in backend.why


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_is_compared_and_left_as_it_was(dtype):
    model = adapted(build("Llama").to(dtype))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.zero_()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    assert choose(model).name == "fast"
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None


# --- isolation -------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["auto", "transformers"])
def test_attention_that_ignores_boundaries_is_refused_at_the_start(leak, wanted):
    model = adapted(build("Phi3" if wanted == "auto" else "Llama"))
    model.get_base_model().set_attn_implementation(leak)
    with pytest.raises(TrainingError, match="the records of a row see one another") as caught:
        choose(model, wanted)
    assert "train.packing: false" in caught.value.remedy


def test_attention_that_ignores_boundaries_is_no_matter_with_a_record_a_row(leak):
    model = adapted(build("Phi3"))
    model.get_base_model().set_attn_implementation(leak)
    backend = choose(model, packs=False)
    rows = pack(RECORDS, 1, share_prefixes=False)
    expected, _ = one_by_one(model, RECORDS)
    assert by_rows(model, backend.loss_sum, rows)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lengths", [(9, 40), (40, 9), (20, 20)])
def test_a_leak_is_seen_whichever_record_is_longer(leak, lengths):
    model = build("Llama")
    model.set_attn_implementation(leak)
    given = records(lengths, prefix=0)
    with pytest.raises(TrainingError, match="see one another"):
        check_isolation(PackedModel(model).loss_sum, given, CPU, tolerance=1e-3)
    model.set_attn_implementation("sdpa")
    check_isolation(PackedModel(model).loss_sum, given, CPU, tolerance=1e-3)


def test_a_model_that_forgets_the_boundaries_is_refused():
    # OPT takes position ids, but its mask does not look at them.
    sizes = {"ffn_dim": 40, "word_embed_proj_dim": 24, "num_key_value_heads": None}
    model = adapted(build("OPT", **sizes), ["q_proj", "v_proj"])
    with pytest.raises(TrainingError, match="see one another"):
        choose(model)
    assert choose(model, packs=False).name == "transformers"


def test_a_record_whose_loss_is_another_than_alone_is_refused():
    def loss_sum(row):  # as with positions that go on from the neighbour's
        return torch.tensor(2.0 if len(row.segments) == 1 else 2.01)

    with pytest.raises(TrainingError, match=r"2\.01 beside one .*, 2\.01 .* and 2 alone"):
        check_isolation(loss_sum, RECORDS, CPU, tolerance=1e-3)
    check_isolation(loss_sum, RECORDS, CPU, tolerance=1e-1)  # what bfloat16 rounds


def test_one_record_is_enough_to_ask():
    assert choose(adapted(build("Llama")), given=RECORDS[:1]).name == "fast"
    check_isolation(PackedModel(build("Llama")).loss_sum, RECORDS[:1] * 2, CPU, tolerance=1e-3)


def test_flex_attention_without_a_backward_pass_is_refused_before_training():
    model = adapted(build("Llama"))
    model.get_base_model().set_attn_implementation("flex_attention")
    with pytest.raises(TrainingError, match="no backward pass on a CPU") as caught:
        choose(model)
    assert (caught.value.where, caught.value.remedy) == (
        "model.attn_implementation",
        "Set auto or sdpa.",
    )


def test_an_eight_bit_base_may_round_by_its_neighbours_and_still_may_not_see_them(leak, tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    build("Llama", **sizes).save_pretrained(tmp_path)
    rounded = BitsAndBytesConfig(load_in_8bit=True)
    model = adapted(
        AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=rounded), ["q_proj"]
    )
    backend = choose(model)
    assert (backend.name, backend.why) == ("transformers", "its base is quantized")
    layers = [m for m in model.modules() if hasattr(getattr(m, "state", None), "threshold")]
    assert {layer.state.threshold for layer in layers} == {6.0}  # as before the check
    model.get_base_model().set_attn_implementation(leak)
    with pytest.raises(TrainingError, match="see one another"):
        choose(model)
