import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch._subclasses.fake_tensor import FakeTensor

from burnish.models.lora import lora_config
from burnish.planning.batches import Batch
from burnish.planning.live import LiveBytes
from burnish.planning.outlook import with_settings
from burnish.planning.step import Setting, step_bytes
from burnish.recipe import DataSection, LoraSettings, Recipe, Source, TrainSection
from burnish.training.llama.attention import _future
from burnish.training.rehearsal import rehearsed_loop
from tests.conftest import tiny_llama

RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))
LORA = LoraSettings(r=4)
BATCH = Batch(1, 60, 30, padded=False)


def loop_of(**settings):
    return rehearsed_loop(TrainSection(**settings), "cpu")


def setting_of(config, *, checkpointing=False):
    return Setting(config, LORA, None, torch.float32, checkpointing)


@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_a_row_on_fake_tensors_takes_what_a_real_one_takes(backend):
    config = tiny_llama(300, num_hidden_layers=6).config
    planned = step_bytes(setting_of(config), BATCH, loop_of(backend=backend))
    model = get_peft_model(tiny_llama(300, num_hidden_layers=6), lora_config(LORA)).train()
    with LiveBytes([*model.parameters(), *model.buffers()]) as live:
        loss = loop_of(backend=backend).loss(model, BATCH)
        loss().backward()
    assert planned.total == pytest.approx(live.peak, rel=0.1)


def test_recomputing_keeps_less():
    config = tiny_llama(300, num_hidden_layers=20).config
    plain, again = (
        step_bytes(setting_of(config, checkpointing=c), BATCH, loop_of()) for c in (False, True)
    )
    assert again.total < plain.total / 2


def test_no_tensor_without_data_is_left_in_the_caches():
    step_bytes(setting_of(tiny_llama(300).config), BATCH, loop_of(backend="fast"))
    assert not isinstance(_future(60, torch.device("cpu")), FakeTensor)


def test_rows_are_packed_by_the_step_and_one_record_each_without_packing():
    lengths = np.array([400] * 8)
    loop = loop_of()
    assert list(loop.training(RECIPE, lengths, lengths).lengths) == [800] * 4
    apart = with_settings(RECIPE, {"train.packing": False})
    assert list(loop.training(apart, lengths, lengths).lengths) == [400] * 8
    assert list(loop.validation(RECIPE, lengths, lengths).lengths) == [800] * 4


def test_smaller_micro_batches_are_shorter_rows():
    assert loop_of().smaller(RECIPE) == [
        {"train.row_length": 512},
        {"train.row_length": 256},
    ]
    assert loop_of().smaller(with_settings(RECIPE, {"train.packing": False})) == []


def test_a_gpu_takes_the_models_own_forward():
    config = tiny_llama(300).config
    auto = rehearsed_loop(TrainSection(), "cuda")
    own = loop_of(backend="transformers")
    assert step_bytes(setting_of(config), BATCH, auto) == step_bytes(setting_of(config), BATCH, own)
