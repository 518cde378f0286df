import copy
import itertools
from functools import partial

import pytest
import torch
import transformers

from burnish.models.lora import lora_config
from burnish.models.trainable import held_in, make_trainable
from burnish.planning.live import LiveBytes
from burnish.planning.step import Setting, bound_bytes, build, evaluation_bytes, step_bytes
from burnish.recipe import LoraSettings, TrainSection
from burnish.training import rehearsal
from burnish.training.rehearsal import rehearsed_loop
from tests.conftest import tiny_llama
from tests.planning.made_up import batch, own_forward, recipe_with

TRAIN = TrainSection(lora=LoraSettings(r=4))


@pytest.fixture(autouse=True)
def one_lane(monkeypatch):
    monkeypatch.setattr(rehearsal, "set_threads", lambda: 1)


def setting(config, **changes):
    values = {"bits": None, "dtype": torch.float32} | changes
    return Setting(config=config, train=TRAIN, **values)


def loop_of(config, backend):
    return rehearsed_loop(recipe_with(train__backend=backend), config, "cpu")


def real_peak(config, row, loop, num_recomputed=0, *, dtype=torch.float32):
    """The bytes of a real step on real tensors."""
    from peft import get_peft_model

    base = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
    model = get_peft_model(base, lora_config(TRAIN.lora)).train()
    known = [*model.parameters(), *model.buffers()]
    loop.forget()  # masks that another step has left
    with LiveBytes(known) as live:
        loss = loop.loss(model, row, num_recomputed)
        loss().backward()
    return live.peak


@pytest.mark.parametrize("num_recomputed", [0, 1, 2])
@pytest.mark.parametrize("backend", ["transformers", "fast"])
def test_a_step_on_fake_tensors_takes_what_a_real_one_takes(backend, num_recomputed):
    config = tiny_llama(300, num_hidden_layers=2).config
    row, loop = batch(120, 30, records=3), loop_of(config, backend)
    planned = step_bytes(setting(config), row, loop, num_recomputed).total
    assert planned == pytest.approx(real_peak(config, row, loop, num_recomputed), rel=0.02)


@pytest.mark.parametrize("num_recomputed", [0, 1, 3, 7, 9, 10])
@pytest.mark.parametrize("backend", ["transformers", "fast"])
def test_of_a_deep_model_too_whatever_part_of_it_recomputes(backend, num_recomputed):
    config = tiny_llama(300, num_hidden_layers=10).config
    row, loop = batch(120, 30, records=3), loop_of(config, backend)
    planned = step_bytes(setting(config), row, loop, num_recomputed).total
    # What checkpoints hold beside hidden states (mask, positions) is there once, and not counted.
    beside = 3 * 120 * 120 if backend == "transformers" else 0
    real = real_peak(config, row, loop, num_recomputed)
    assert planned == pytest.approx(real, rel=0.02, abs=beside)


def test_each_layer_that_recomputes_leaves_as_much_less():
    config = tiny_llama(300, num_hidden_layers=40).config
    row, loop = batch(64, 20), own_forward(config)
    taken = [step_bytes(setting(config), row, loop, n).total for n in range(38)]
    spared = [one - other for one, other in itertools.pairwise(taken)]
    assert spared == pytest.approx([spared[0]] * 37)
    assert spared[0] > 9 * 64 * 32 * 4  # nine times its input and more


def test_logits_are_one_array_of_supervised_tokens_by_vocabulary():
    config = tiny_llama(20_000).config
    found = step_bytes(setting(config), batch(100, 40), own_forward(config))
    assert found.logits == 40 * 20_000 * 4


def test_activations_grow_with_the_tokens():
    config = tiny_llama(20_000).config
    one, two = (
        step_bytes(setting(config), batch(256 * n, 20, records=16 * n), loop_of(config, "fast"))
        for n in (1, 2)
    )
    mask = 16 * 16 * 4  # one for all records
    assert (two.activations - mask) / (one.activations - mask) == pytest.approx(2, rel=0.05)


def test_recomputing_leaves_a_layer_its_input_alone():
    def per_layer(recomputes):
        deep, flat = (
            step_bytes(
                setting(tiny_llama(300, num_hidden_layers=n).config),
                batch(64, 20),
                own_forward(tiny_llama(300, num_hidden_layers=n).config),
                n if recomputes else 0,
            ).activations
            for n in (40, 20)
        )
        return (deep - flat) / 20

    assert per_layer(True) == pytest.approx(64 * 32 * 4, rel=0.01)
    assert per_layer(False) > 10 * per_layer(True)


def test_an_evaluation_keeps_no_activations():
    config = tiny_llama(300, num_hidden_layers=20).config
    row, loop = batch(64, 20), own_forward(config)
    scored, trained = (f(setting(config), row, loop).total for f in (evaluation_bytes, step_bytes))
    assert scored < trained / 5


def test_4_bits_keep_as_much_of_a_row_as_a_whole_base():
    config = tiny_llama(20_000).config
    whole, packed = (
        step_bytes(setting(config, bits=bits), batch(64, 20), own_forward(config)).activations
        for bits in (None, 4)
    )
    assert packed == pytest.approx(whole, rel=0.05)


def test_what_was_traced_once_is_not_traced_again(monkeypatch):
    config = tiny_llama(310).config
    count = partial(step_bytes, setting(config), batch(64, 20), own_forward(config))
    first = count()
    monkeypatch.setattr("burnish.planning.step.build", lambda _: pytest.fail("it was built again"))
    assert count() == first


def architectures():
    common = {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    grouped = common | {"num_key_value_heads": 2}
    return [
        transformers.Qwen3Config(**grouped, head_dim=8),
        transformers.Gemma3TextConfig(**grouped, head_dim=8),
        transformers.Phi3Config(**common),
        transformers.GPTNeoXConfig(**common),
        transformers.MixtralConfig(**grouped, num_local_experts=4, num_experts_per_tok=2),
    ]


# PEFT looks for experts under an older name.
quiet_about_experts = pytest.mark.filterwarnings("ignore:The following .*_pattern keys")


@quiet_about_experts
@pytest.mark.parametrize("config", architectures(), ids=lambda c: c.model_type)
def test_other_architectures_need_nothing_of_their_own(config):
    found = step_bytes(setting(config), batch(64, 10), own_forward(config))
    assert found.total > 4 * 64 * 32 * 4  # at least the input of every layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "method", [{"method": "full"}, {"method": "freeze"}, {"method": "freeze", "count": 5}]
)
def test_weights_of_the_model_that_learn_take_what_they_take(method, dtype):
    method = dict(method)
    train = TrainSection(
        method=method["method"],
        **({"freeze_trainable_layers": method["count"]} if "count" in method else {}),
    )
    config = tiny_llama(300, num_hidden_layers=10).config
    row = batch(120, 30, records=3)
    loop = own_forward(config, train__method=train.method, train__bf16=dtype == torch.bfloat16)
    planned = step_bytes(Setting(config, train, None, dtype), row, loop).total
    held = held_in(train, dtype, torch.float32)
    base = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=held)
    model = make_trainable(base, train).train()
    with LiveBytes([*model.parameters(), *model.buffers()]) as live:
        loop.loss(model, row, 0)().backward()
    assert planned == pytest.approx(live.peak, rel=0.05)


@pytest.mark.parametrize("backend", ["transformers", "fast"])
def test_no_step_takes_more_than_its_bound(backend):
    config = tiny_llama(300, num_hidden_layers=4).config
    for row in (batch(30, 10), batch(600, 500), batch(600, 599, records=3)):
        taken = step_bytes(setting(config), row, loop_of(config, backend)).total
        assert taken < bound_bytes(build(setting(config)), row.length) < 40 * taken


def test_the_bound_by_hand():
    config = tiny_llama(300).config
    # Two layers, each q, k, v, o, gate, up and down with A and B of rank 4, and the head.
    sides = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    linear = 2 * sum((i + o) + (i + 4) + (4 + o) for i, o in sides) + 32 + 300
    scores = 2 * 4 * 10
    expected = 4 * 10 * (2 * linear + 3 * scores + 4 * 300)
    assert bound_bytes(build(setting(config)), 10) == expected


@pytest.mark.parametrize(
    "targets, depths",
    [
        ("all-linear", (2, 4)),
        (["q_proj", "self_attn.v_proj"], (2, 4)),
        (["layers.7.self_attn.q_proj", "v_proj"], (9,)),
        (r".*layers\.[78]\..*q_proj", (9,)),
    ],
    ids=str,
)
def test_where_adapters_go_to_single_layers_all_layers_are_run(targets, depths):
    train = TrainSection(lora=LoraSettings(r=4, target_modules=targets))
    config = tiny_llama(300, num_hidden_layers=9).config
    chosen = Setting(config=config, train=train, bits=None, dtype=torch.float32)
    assert chosen.depths == depths
    assert step_bytes(chosen, batch(30, 9), own_forward(config)).total > 0
