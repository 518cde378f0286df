"""A recipe for all tests of sweeps."""

from __future__ import annotations

import pytest

from tests.conftest import write_recipe


@pytest.fixture
def recipe(tmp_path, tiny_model):
    """A recipe of one epoch on the tiny model."""
    text = f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {tiny_model}}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
prepare: {{{{max_length: 128, validation_size: 0.2, test_size: 0}}}}
train: {{{{bf16: false, num_train_epochs: 1, lora: {{{{r: 2}}}}}}}}
"""
    return write_recipe(tmp_path, text)
