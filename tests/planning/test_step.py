import copy

import pytest
import torch

from burnish.models.lora import lora_config
from burnish.planning.batches import Batch
from burnish.planning.live import LiveBytes
from burnish.planning.step import Setting, evaluation_bytes, step_bytes
from burnish.recipe import LoraSettings
from burnish.scoring import collate, supervised_logits
from tests.conftest import tiny_llama

LORA = LoraSettings(r=4)


def setting(config, **changes):
    values = {"bits": None, "dtype": torch.float32, "checkpointing": False} | changes
    return Setting(config=config, lora=LORA, **values)


def real_peak(config, batch, *, checkpointing=False):
    """The bytes of a real step on real tensors."""
    from peft import get_peft_model
    from transformers import LlamaForCausalLM

    base = LlamaForCausalLM(copy.deepcopy(config))
    model = get_peft_model(base, lora_config(LORA)).train()
    if checkpointing:
        base.enable_input_require_grads()
        base.gradient_checkpointing_enable()
    lengths = [batch.length] + [batch.length - 1] * (batch.size - 1)
    learned = batch.supervised // batch.size
    rows = [([1] * n, [-100] * (n - learned) + [1] * learned) for n in lengths]
    inputs = collate(rows)
    known = [*model.parameters(), *model.buffers(), *inputs.values()]
    with LiveBytes(known) as live:
        logits, targets = supervised_logits(model, inputs)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        del logits
        loss.backward()
    return live.peak


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("layers", [2, 6])
def test_a_step_on_fake_tensors_takes_what_a_real_one_takes(layers, checkpointing):
    config = tiny_llama(300, num_hidden_layers=layers).config
    batch = Batch(size=3, length=40, supervised=30)
    planned = step_bytes(setting(config, checkpointing=checkpointing), batch).total
    real = real_peak(config, batch, checkpointing=checkpointing)
    assert planned == pytest.approx(real, rel=0.02)


def test_logits_are_three_arrays_of_supervised_tokens_by_vocabulary():
    # Their log-softmax, its gradient, and the gradient of the logits; padding has none.
    config = tiny_llama(20_000).config
    found = step_bytes(setting(config), Batch(size=2, length=50, supervised=40))
    assert found.logits == 3 * 40 * 20_000 * 4


def test_activations_grow_with_the_tokens():
    config = tiny_llama(20_000).config
    one, two = (step_bytes(setting(config), Batch(n, 64, 20)).activations for n in (1, 2))
    assert two / one == pytest.approx(2, rel=0.05)


def test_recomputing_leaves_a_layer_its_input_alone():
    def per_layer(checkpointing):
        deep, flat = (
            step_bytes(
                setting(
                    tiny_llama(20_000, num_hidden_layers=n).config, checkpointing=checkpointing
                ),
                Batch(2, 64, 20),
            ).activations
            for n in (40, 20)
        )
        return (deep - flat) / 20

    assert per_layer(True) == pytest.approx(2 * 64 * 32 * 4, rel=0.01)
    assert per_layer(False) > 10 * per_layer(True)


def test_an_evaluation_keeps_no_activations():
    config = tiny_llama(300, num_hidden_layers=20).config
    batch = Batch(2, 64, 20)
    assert (
        evaluation_bytes(setting(config), batch).total
        < step_bytes(setting(config), batch).total / 5
    )


def test_4_bits_keep_as_much_of_a_row_as_a_whole_base():
    config = tiny_llama(20_000).config
    whole, packed = (
        step_bytes(setting(config, bits=bits), Batch(2, 64, 20)).activations for bits in (None, 4)
    )
    assert packed == pytest.approx(whole, rel=0.05)


def architectures():
    import transformers

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
    ]


@pytest.mark.parametrize("config", architectures(), ids=lambda c: c.model_type)
def test_other_architectures_need_nothing_of_their_own(config):
    found = step_bytes(setting(config), Batch(2, 32, 10))
    assert found.total > 4 * 2 * 32 * 32 * 4  # at least the input of every layer
