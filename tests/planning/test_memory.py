import numpy as np
import pytest
import torch

from burnish.planning.batches import Batch, MicroBatches
from burnish.planning.memory import (
    CPU_SCATTERED_GIB,
    CUDA_CONTEXT_GIB,
    CUDA_WORKSPACE_GIB,
    Place,
    memory,
    setting_of,
    worst_batch,
)
from burnish.planning.outlook import with_settings
from burnish.planning.step import step_bytes
from burnish.recipe import DataSection, Recipe, Source
from tests.conftest import tiny_llama

GIB = 2**30
RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))
TRAINED = 16 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
"""Weights of the default adapter on the tiny Llama: rank times both widths of each linear layer."""


def batches(*shapes):
    sizes, lengths, supervised = np.array(shapes).T
    return MicroBatches(sizes, lengths, sizes * lengths - 1, supervised, len(sizes))


def seen(config=None, *, device="cpu", validation=None, dtype=torch.float32, **changes):
    recipe = with_settings(RECIPE, {k.replace("__", "."): v for k, v in changes.items()})
    config = config or tiny_llama(5000).config
    setting = setting_of(recipe, config, dtype)
    training = batches((2, 20, 10), (2, 30, 12))
    found = memory(recipe, setting, training, validation, Place(device, 0.5))
    return found, setting


def test_weights_adapter_gradients_and_two_moments_by_hand():
    found, _ = seen()
    weights = 5000 * 32 + 2 * (2 * 1024 + 2 * 512 + 3 * 2048 + 64) + 32
    assert found.weights * GIB == pytest.approx(4 * weights)
    assert found.adapters * GIB == pytest.approx(4 * TRAINED)
    assert found.gradients * GIB == pytest.approx(4 * TRAINED)
    assert found.optimizer * GIB == pytest.approx(8 * TRAINED)
    assert found.others == pytest.approx(0.5 + CPU_SCATTERED_GIB, abs=5e-6)  # and a batch's ids


def test_the_peak_is_the_sum_of_the_parts_of_the_worst_batch():
    found, setting = seen()
    step = step_bytes(setting, Batch(2, 30, 12))
    assert found.activations * GIB == pytest.approx(step.activations)
    assert found.logits * GIB == pytest.approx(step.logits)
    assert found.peak == pytest.approx(sum(found.parts.values()))
    assert found.worst == "training"


def test_a_large_evaluation_can_be_the_worst_moment():
    found, _ = seen(validation=batches((64, 60, 3000)))
    assert found.worst == "validation"
    assert found.logits * GIB >= 2 * 3000 * 5000 * 4


def test_a_gpu_has_a_context_instead_of_libraries_and_scatters_a_little():
    cpu, _ = seen()
    cuda, _ = seen(device="cuda")
    assert cuda.others == CUDA_CONTEXT_GIB + CUDA_WORKSPACE_GIB
    assert cuda.activations == pytest.approx(1.05 * cpu.activations)
    assert cuda.weights == cpu.weights


def test_the_file_of_a_quantized_base_stays_mapped_as_far_as_it_is_used():
    config = tiny_llama(5000).config
    whole, _ = seen(config)
    packed, _ = seen(config, model__load_in_4bit=True)
    linear = 2 * (2 * 1024 + 2 * 512 + 3 * 2048)
    assert (packed.others - whole.others) * GIB == pytest.approx(4 * linear, abs=5000)
    config.dtype = torch.bfloat16  # then the embeddings are converted, and nothing is used
    other, _ = seen(config, model__load_in_4bit=True)
    assert other.others == pytest.approx(whole.others, abs=5e-6)


def test_states_in_8_bits_are_a_quarter():
    plain, _ = seen()
    small, _ = seen(train__optim="adamw_bnb_8bit")
    assert small.optimizer / plain.optimizer == pytest.approx(0.254, abs=0.001)


def test_many_supervised_tokens_can_make_a_shorter_batch_the_worst():
    _, setting = seen()
    assert worst_batch(setting, batches((2, 30, 2), (2, 28, 50))) == Batch(2, 28, 50)


def test_a_batch_of_one_row_has_no_padding():
    _, setting = seen()
    alone = MicroBatches(*(np.array([n]) for n in (1, 30, 30, 10)), num_records=1)
    assert worst_batch(setting, alone) == Batch(1, 30, 10, padded=False)
