"""Runs that are trained, for what comes after: merge and quantize."""

from __future__ import annotations

from burnish.pipeline import run_stage
from burnish.recipe_file import load_recipe
from tests.conftest import byte_tokenizer, write_recipe


def save_model(model, folder):
    """A model with the byte tokenizer, in Hugging Face's layout."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def tuned_run(folder, model, more="allow_pickle: false", **lora):
    """A recipe whose stages up to train are done."""
    text = (
        "run_dir: {folder}/run\n"
        f"model: {{{{name_or_path: {model}, {more}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        "prepare: {{max_length: 128, validation_size: 0.2, test_size: 0.2}}\n"
        "train: {{bf16: false, num_train_epochs: 1, learning_rate: 2e-2, lora: {{r: 2}}}}\n"
        "quantize: {{num_samples: 8, group_size: 32}}\n"
    )
    overrides = [f"train.lora.{name}={value}" for name, value in lora.items()]
    loaded = load_recipe(write_recipe(folder, text), overrides)
    for name in ("clean", "prepare", "train"):
        run_stage(name, loaded)
    return loaded
