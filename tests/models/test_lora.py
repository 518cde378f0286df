import sys

import pytest

from burnish.errors import MissingExtraError
from burnish.models.lora import lora_config
from burnish.recipe import LoraSettings


def test_every_setting_of_the_adapter_arrives_under_pefts_name():
    settings = LoraSettings(
        r=3, lora_alpha=7, lora_dropout=0.25, bias="all", target_modules=["q_proj", "v_proj"]
    )
    config = lora_config(settings)
    assert {name: getattr(config, name) for name in settings.model_dump()} == {
        "r": 3,
        "lora_alpha": 7,
        "lora_dropout": 0.25,
        "bias": "all",
        "target_modules": {"q_proj", "v_proj"},
    }
    assert config.task_type == "CAUSAL_LM"


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"burnish\[train\]"):
        lora_config(LoraSettings())
