from pathlib import Path

import pytest
from pydantic import ValidationError

from burnish.recipe import Recipe
from burnish.recipe_file import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
DATA = {"sources": [{"path": "a.csv"}]}


def message(**sections):
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"data": DATA, **sections})
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_only_the_data_must_be_given():
    assert Recipe.model_validate({"data": DATA}).model_dump(exclude_unset=True) == {"data": DATA}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"model": {"load_in_8bit": True, "load_in_4bit": True}},
            "load_in_8bit and load_in_4bit exclude each other; choose one.",
        ),
        (
            {
                "data": {
                    "sources": [{"path": "a", "layout": "messages", "columns": {"output": "a"}}]
                }
            },
            "columns have no effect with layout messages; remove one.",
        ),
        (
            {"prepare": {"validation_size": 0.5, "test_size": 0.5}},
            "validation_size and test_size leave nothing to train on.",
        ),
        (
            {"train": {"eval_strategy": "steps"}},
            "load_best_model_at_end needs a checkpoint at every evaluation: eval_strategy is "
            "steps, save_strategy epoch. Give both one value, or set load_best_model_at_end: "
            "false.",
        ),
        (
            {"train": {"eval_strategy": "no", "save_strategy": "no"}},
            "load_best_model_at_end needs evaluations. Set eval_strategy: epoch, or "
            "load_best_model_at_end: false.",
        ),
        (
            {"model": {"load_in_4bit": True}, "train": {"method": "full"}},
            "train.method: full trains weights of the model itself, and quantized ones have no "
            "gradient. Set train.method: lora, or model.load_in_4bit: false.",
        ),
        (
            {
                "model": {"load_in_8bit": True},
                "train": {"lora": {"init_lora_weights": "pissa_niter_16"}},
            },
            "train.lora.init_lora_weights: pissa_niter_16 takes a part out of the base's weights, "
            "and model.load_in_8bit leaves none to take it from. Set init_lora_weights: true or "
            "loftq.",
        ),
        (
            {
                "model": {"load_in_4bit": True},
                "train": {"lora": {"init_lora_weights": "orthogonal"}},
            },
            "train.lora.init_lora_weights: orthogonal makes A and B in the type of the base's "
            "weights, which are integers with model.load_in_4bit. Set init_lora_weights: true.",
        ),
        (
            {"train": {"lora": {"init_lora_weights": "loftq"}}},
            "train.lora.init_lora_weights: loftq makes up for what 4 bits lose, and this base is "
            "whole or has 8. Set model.load_in_4bit: true, or init_lora_weights: true.",
        ),
        (
            {"model": {"new_tokens": ["x"]}, "train": {"lora": {"init_lora_weights": "olora"}}},
            "the rows of model.new_tokens would be lost when an adapter of init_lora_weights: "
            "olora is made to fit the original base. Set init_lora_weights: true.",
        ),
        (
            {"model": {"new_tokens": ["x"]}, "train": {"method": "freeze"}},
            "model.new_tokens need rows that learn, and method freeze leaves the embeddings as "
            "they are. Name embed_tokens (and lm_head) in train.freeze_trainable_layers.",
        ),
        (
            {"model": {"new_tokens": ["x "]}},
            "new_tokens: 'x ' begins or ends with a blank, or is empty.",
        ),
        ({"model": {"new_tokens": ["x", "x"]}}, "new_tokens: 'x' stands there twice."),
        (
            {"train": {"lora": {"init_lora_weights": "pissa", "use_dora": True}}},
            "init_lora_weights: pissa takes a part out of the base, which DoRA's magnitudes are "
            "measured on; set use_dora: false, or init_lora_weights: true.",
        ),
        (
            {"train": {"lora": {"init_lora_weights": "olora", "bias": "all"}}},
            "bias: all would be lost when an adapter of init_lora_weights: olora is made to fit "
            "the original base; set bias: none.",
        ),
        (
            {"train": {"lora": {"init_lora_weights": "loftq", "use_dora": True}}},
            "init_lora_weights: loftq excludes use_dora; choose one.",
        ),
        (
            {"train": {"lora": {"init_lora_weights": "orthogonal", "r": 7}}},
            "init_lora_weights: orthogonal needs an even r, not 7.",
        ),
        (
            {"train": {"method": "full", "lora": {"r": 8}}},
            "lora has no effect with method full; remove one.",
        ),
        (
            {"train": {"freeze_trainable_layers": 3}},
            "freeze_trainable_layers has no effect with method lora; set method: freeze.",
        ),
        (
            {"train": {"method": "freeze", "freeze_trainable_layers": []}},
            "freeze_trainable_layers is empty, so nothing would learn.",
        ),
        (
            {"train": {"backend": "fast", "lora": {"use_dora": True}}},
            "backend: fast computes plain LoRA alone, and lora.use_dora changes more than an "
            "update of low rank; set auto.",
        ),
        (
            {"train": {"backend": "fast", "neftune_noise_alpha": 5.0}},
            "backend: fast computes plain LoRA alone, and neftune_noise_alpha adds noise to the "
            "embeddings; set auto.",
        ),
        (
            {"train": {"optim": "galore_adamw"}},
            "optim: galore_adamw keeps the optimizer of whole matrices small; with method lora "
            "there is little to save. Set method: full, or optim: adamw_torch.",
        ),
        (
            {"train": {"method": "full", "optim": "apollo_adamw", "weight_decay": 0.1}},
            "weight_decay has no effect with optim: apollo_adamw; set it to 0.",
        ),
        (
            {"train": {"optim_args": {"rank": 8}}},
            "optim_args has no effect with optim: adamw_torch_fused.",
        ),
        (
            {"train": {"optim": "muon", "lora": {"loraplus_lr_ratio": 16}}},
            "lora.loraplus_lr_ratio is for optimizers that scale every weight alone; muon's steps "
            "already have the same size for A and B. Set optim: adamw_torch.",
        ),
        (
            {
                "train": {
                    "lr_scheduler_type": "reduce_lr_on_plateau",
                    "load_best_model_at_end": False,
                    "eval_strategy": "no",
                }
            },
            "reduce_lr_on_plateau needs evaluations; set eval_strategy: epoch.",
        ),
        (
            {"train": {"load_best_model_at_end": False, "early_stopping_patience": 2}},
            "early_stopping_patience needs load_best_model_at_end: true.",
        ),
        (
            {"train": {"torch_compile": True, "backend": "fast"}},
            "torch_compile has no effect with backend fast; set backend: auto.",
        ),
        (
            {"train": {"use_liger_kernel": True, "backend": "fast"}},
            "use_liger_kernel has no effect with backend fast; set backend: auto.",
        ),
        (
            {"train": {"torch_compile": True, "speed": "int8"}},
            "torch_compile has no effect with speed int8; set speed: exact.",
        ),
        (
            {"train": {"torch_compile": True, "activation_offloading": True}},
            "torch_compile decides by itself what is kept for the backward pass, and "
            "activation_offloading was not tried with it; set one of them to false.",
        ),
        (
            {"train": {"eval_steps": 5}},
            "eval_steps has no effect with eval_strategy epoch.",
        ),
        (
            {
                "train": {
                    "eval_strategy": "steps",
                    "save_strategy": "steps",
                    "eval_steps": 30,
                    "save_steps": 100,
                }
            },
            "save_steps (100) must be a multiple of eval_steps (30) with load_best_model_at_end.",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(section, expected):
    assert message(**section) == expected


@pytest.mark.parametrize(
    "section",
    [
        {"train": {"learning_rate": 0}},
        {"train": {"learning_rate": float("inf")}},
        {"train": {"seed": -1}},
        {"train": {"bf16": "yes"}},
        {"train": {"num_train_epochs": "3"}},
        {"prepare": {"validation_size": 1}},
        {"serve": {"port": 0}},
        {"serve": {"top_p": 0}},
        {"quantize": {"bits": 3}},
        {"quantize": {"group_size": 48}},
        {"clean": {"strip_html": 1}},
        {"data": {"sources": []}},
        {"data": {"sources": [{"path": "a", "limit": 0}]}},
    ],
)
def test_values_out_of_range_or_of_another_type_are_refused(section):
    message(**section)


def test_nothing_writes_to_a_recipe():
    recipe = Recipe.model_validate({"data": DATA})
    with pytest.raises(ValidationError):
        recipe.train.seed = 1


def _name_of(setting):
    return setting["$ref"].rpartition("/")[2]


def test_the_json_schema_describes_every_setting_and_forbids_others():
    schema = Recipe.model_json_schema()
    assert schema["required"] == ["data"]
    for section in [schema, *schema["$defs"].values()]:
        assert section["additionalProperties"] is False
        for name, setting in section["properties"].items():
            described = setting if "$ref" not in setting else schema["$defs"][_name_of(setting)]
            assert described.get("description"), name
    lora = schema["$defs"]["LoraSettings"]["properties"]["r"]
    assert (lora["minimum"], lora["default"], lora["type"]) == (1, 16, "integer")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_ready_recipes_load(path):
    assert load_recipe(path).name == path.stem
