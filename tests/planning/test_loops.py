import numpy as np
import pytest
import torch
from peft import get_peft_model

from burnish.models.lora import lora_config
from burnish.planning.batches import Batch
from burnish.planning.loops import PADDED
from burnish.planning.outlook import with_settings
from burnish.recipe import DataSection, LoraSettings, Recipe, Source
from tests.conftest import tiny_llama

RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))


def test_the_padded_loop_takes_micro_batches_of_the_recipe():
    lengths = np.arange(10, 30)
    batches = PADDED.training(RECIPE, lengths, lengths - 5)
    assert list(batches.sizes) == [4] * 5
    assert batches.lengths[0] == 29
    recipe = with_settings(RECIPE, {"train.per_device_eval_batch_size": 8})
    assert list(PADDED.validation(recipe, lengths, lengths).sizes) == [8, 8, 4]


def test_smaller_micro_batches_keep_the_rows_of_a_step():
    recipe = with_settings(
        RECIPE, {"train.per_device_train_batch_size": 6, "train.gradient_accumulation_steps": 1}
    )
    found = PADDED.smaller(recipe)
    sizes = [
        (c["train.per_device_train_batch_size"], c["train.gradient_accumulation_steps"])
        for c in found
    ]
    assert sizes == [(3, 2), (2, 3), (1, 6)]


@pytest.mark.parametrize("vocab", [50])
def test_the_padded_loss_is_the_sum_over_so_many_tokens(vocab):
    torch.manual_seed(0)
    model = get_peft_model(tiny_llama(vocab), lora_config(LoraSettings(r=4)))
    with torch.no_grad():
        loss = PADDED.loss(model, Batch(2, 10, 12))()
        # All tokens are 0, so that every position has the same logits but for its place.
        logits = model(input_ids=torch.zeros(1, 10, dtype=torch.long)).logits[0]
        one = -logits.log_softmax(-1)[:, 0]
    # 12 tokens: 9 of the first row, 3 of the second.
    assert float(loss) == pytest.approx(float(one[:9].sum() + one[:3].sum()), rel=1e-5)
