"""A recipe to run commands on."""

from __future__ import annotations

import pytest

from tests.conftest import write_recipe


@pytest.fixture
def tiny(tmp_path, tiny_model):
    """The path of a recipe on the tiny model, cleaned and prepared nowhere yet."""
    return write_recipe(
        tmp_path,
        "data: {{sources: [{{path: {data}}}]}}\n"
        f"model: {{{{name_or_path: {tiny_model}}}}}\n"
        "train: {{max_steps: 2, logging_steps: 1, lora: {{r: 2}}}}\n"
        "evaluate: {{num_answers: 1, max_new_tokens: 4}}\n"
        "quantize: {{group_size: 32, num_samples: 4}}\n"
        "serve: {{temperature: 0, max_new_tokens: 6}}\n",
    )
