import json

import pytest
import torch
from transformers import LlamaConfig, MixtralConfig

from burnish.errors import ModelError
from burnish.planning.shape import (
    empty_model,
    num_active,
    num_experts,
    num_parameters,
    quantizable,
    read_shape,
    shallow,
    with_adapter,
)
from burnish.recipe import LoraSettings
from tests.conftest import tiny_llama


def test_a_shape_is_counted_from_config_json_alone(tmp_path):
    config = tiny_llama(100).config
    config.save_pretrained(tmp_path)
    model = empty_model(read_shape(tmp_path), torch.float32)
    assert all(p.device.type == "meta" for p in model.parameters())
    # Embeddings 100 x 32, tied; a layer: q and o 32 x 32, k and v 16 x 32, three of 64 x 32, and
    # two norms of 32; a norm at the end.
    layer = 2 * 1024 + 2 * 512 + 3 * 2048 + 64
    assert num_parameters(model) == 3200 + 2 * layer + 32


def test_a_configuration_stays_as_it_was():
    config = tiny_llama(100).config
    config.dtype = torch.bfloat16
    empty_model(config, torch.float32)
    assert config.dtype == torch.bfloat16


def test_a_head_of_its_own_counts_once_more():
    tied, own = (
        num_parameters(empty_model(tiny_llama(100, tie_word_embeddings=t).config, torch.float32))
        for t in (True, False)
    )
    assert own - tied == 3200


def test_a_token_passes_through_its_experts_only():
    config = MixtralConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=8,
        num_experts_per_tok=2,
    )
    model = empty_model(config, torch.float32)
    assert num_experts(config) == 8
    # Eight experts of three 64 x 32 matrices; six of them rest.
    assert num_parameters(model) - num_active(model) == 6 * 3 * 64 * 32


def test_without_experts_all_weights_are_active():
    model = empty_model(tiny_llama(100).config, torch.float32)
    assert num_active(model) == num_parameters(model)
    assert num_experts(model.config) == 0


def test_the_adapter_takes_rank_times_both_widths():
    model = empty_model(tiny_llama(100).config, torch.float32)
    adapted = with_adapter(model, LoraSettings(r=4, target_modules=["q_proj", "v_proj"]))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == 2 * 4 * ((32 + 32) + (32 + 16))


def test_the_head_is_not_quantized():
    model = empty_model(tiny_llama(100, tie_word_embeddings=False).config, torch.float32)
    names = [name for name, _ in quantizable(model)]
    assert len(names) == 14
    assert "lm_head" not in names


def test_fewer_layers_of_the_same_kind():
    config = LlamaConfig(num_hidden_layers=5)
    config.layer_types = ["full_attention"] * 5
    shorter = shallow(config, 2)
    assert shorter.num_hidden_layers == 2
    assert shorter.layer_types == ["full_attention"] * 2
    assert config.num_hidden_layers == 5


def test_a_config_that_nobody_knows_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(ModelError, match=r"its config\.json can't be used"):
        read_shape(tmp_path)


def test_a_model_that_writes_no_text_is_an_error():
    from transformers import ViTConfig

    with pytest.raises(ModelError, match="no causal language model can be built"):
        empty_model(ViTConfig(), torch.float32)


def test_every_list_of_layers_is_as_short_as_the_model():
    config = LlamaConfig(num_hidden_layers=5, eos_token_id=[1, 2, 3, 4, 5])
    config.no_rope_layers = [1, 1, 1, 0, 1]
    shorter = shallow(config, 2)
    assert shorter.no_rope_layers == [1, 1]
    assert shorter.eos_token_id == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": -32}, "hidden_size is -32"),
        ({"num_attention_heads": 0}, "modulo by zero"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
        ({"hidden_size": "32"}, "'hidden_size' expected int, got str"),
        ({"dtype": "float99"}, "float99"),
        ({"quantization_config": "gptq"}, "to_dict"),
    ],
    ids=str,
)
def test_values_that_make_no_shape_are_told_in_one_message(tmp_path, change, said):
    config = tiny_llama(100).config.to_dict() | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"its config\.json can't be used") as caught:
        read_shape(tmp_path)
    assert said in caught.value.problem
    assert "\n" not in caught.value.problem


def test_a_token_can_not_go_through_more_experts_than_there_are(tmp_path):
    MixtralConfig(num_local_experts=4, num_experts_per_tok=9).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a token goes through 9 experts of 4"):
        read_shape(tmp_path)
