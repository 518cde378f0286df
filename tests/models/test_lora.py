import sys

import pytest

from burnish.errors import MissingExtraError
from burnish.models.lora import base_of, lora_config
from burnish.recipe import LoraSettings
from tests.conftest import tiny_llama


def test_every_setting_of_the_adapter_arrives_under_pefts_name():
    settings = LoraSettings(
        r=3,
        lora_alpha=7,
        lora_dropout=0.25,
        bias="all",
        target_modules=["q_proj", "v_proj"],
        use_rslora=True,
        use_dora=True,
        init_lora_weights="gaussian",
    )
    config = lora_config(settings)
    of_the_optimizer = {"loraplus_lr_ratio"}
    names = settings.model_dump(exclude=of_the_optimizer)
    assert {name: getattr(config, name) for name in names} == {
        "r": 3,
        "lora_alpha": 7,
        "lora_dropout": 0.25,
        "bias": "all",
        "target_modules": {"q_proj", "v_proj"},
        "use_rslora": True,
        "use_dora": True,
        "init_lora_weights": "gaussian",
    }
    assert config.task_type == "CAUSAL_LM"


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"burnish\[train\]"):
        lora_config(LoraSettings())


@pytest.mark.parametrize("start", ["pissa", "olora", "orthogonal", "loftq"])
def test_an_adapter_that_is_only_counted_starts_without_a_look_at_the_base(start):
    settings = LoraSettings(init_lora_weights=start)
    assert lora_config(settings, initialize=False).init_lora_weights is True


def test_rows_of_new_tokens_learn_by_the_name_of_their_layer():
    config = lora_config(LoraSettings(), new_rows={"model.embed_tokens": (5, 6)})
    assert config.trainable_token_indices == {"model.embed_tokens": [5, 6]}


def test_the_model_inside_is_found_with_and_without_an_adapter():
    from peft import get_peft_model

    model = tiny_llama(32)
    assert base_of(model) is model
    assert base_of(get_peft_model(model, lora_config(LoraSettings(r=2)))) is model
