import numpy as np
import pytest
import torch

from burnish.planning.memory import (
    CPU_SCATTERED_GIB,
    CUDA_CONTEXT_GIB,
    CUDA_WORKSPACE_GIB,
    Place,
    memory,
    needed,
    setting_of,
)
from burnish.planning.step import Transient, step_bytes
from burnish.training.rehearsal import rehearsed_loop
from tests.conftest import tiny_llama
from tests.planning.made_up import batch, batches, own_forward, recipe_with

GIB = 2**30
TRAINED = 16 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
"""Weights of the default adapter on the tiny Llama: rank times both widths of each linear layer."""


def seen(
    config=None, *, device="cpu", room=None, validation=None, lanes=1, rows=((60, 22),), **changes
):
    recipe = recipe_with(train__backend="transformers", **changes)
    config = config or tiny_llama(5000).config
    setting = setting_of(recipe.model, recipe.train, config, torch.float32)
    training = batches(*rows, lanes=lanes)
    place = Place(device, 0.5, room)
    return memory(recipe, setting, training, validation, place, own_forward(config)), setting


def parts(found):
    names = "weights adapters gradients optimizer activations logits others"
    return {name: getattr(found, name) for name in names.split()}


def test_weights_adapter_gradients_and_two_moments_by_hand():
    found, _ = seen()
    weights = 5000 * 32 + 2 * (2 * 1024 + 2 * 512 + 3 * 2048 + 64) + 32
    assert found.weights * GIB == pytest.approx(4 * weights)
    assert found.adapters * GIB == pytest.approx(4 * TRAINED)
    assert found.gradients * GIB == pytest.approx(4 * TRAINED)
    assert found.optimizer * GIB == pytest.approx(8 * TRAINED)
    assert found.others == pytest.approx(0.5 + CPU_SCATTERED_GIB)


def test_the_peak_is_the_sum_of_the_parts_of_the_worst_row():
    found, setting = seen(rows=((40, 20), (60, 22)))
    step = step_bytes(setting, batch(60, 22), own_forward(setting.config))
    assert found.activations * GIB == pytest.approx(step.activations)
    assert found.logits * GIB == pytest.approx(step.logits)
    assert found.peak == pytest.approx(sum(parts(found).values()))
    assert found.worst_moment == "training"
    assert found.dtype == "float32"


def test_rows_side_by_side_take_as_much_each_and_gradients_of_their_own():
    one, _ = seen()
    two, _ = seen(lanes=2)
    assert two.activations == pytest.approx(2 * one.activations)
    assert two.logits == pytest.approx(2 * one.logits)
    assert two.gradients == pytest.approx(2 * one.gradients)
    assert two.optimizer == one.optimizer


def test_a_large_evaluation_can_be_the_worst_moment():
    found, _ = seen(validation=batches((600, 590)))
    assert found.worst_moment == "validation"
    assert found.logits * GIB == 256 * 5000 * 4  # 256 positions have logits at a time


def test_converting_a_large_base_can_be_the_worst_moment():
    config = tiny_llama(200_000).config
    config.dtype = torch.bfloat16
    found, _ = seen(config, rows=((8, 2),))
    # Half as much in the file's type as in float32, side by side.
    assert found.worst_moment == "loading"
    assert found.peak == pytest.approx(0.5 + CPU_SCATTERED_GIB + 1.5 * found.weights)
    config.dtype = torch.float32
    assert seen(config, rows=((8, 2),))[0].worst_moment == "training"


def test_a_gpu_has_a_context_instead_of_libraries_and_scatters_a_little():
    cpu, _ = seen()
    cuda, _ = seen(device="cuda")
    assert cuda.others == CUDA_CONTEXT_GIB + CUDA_WORKSPACE_GIB
    assert cuda.activations == pytest.approx(1.05 * cpu.activations)
    assert cuda.weights == cpu.weights


def test_what_is_offloaded_is_beside_the_peak_and_scattered_by_no_gpu():
    recipe = recipe_with(train__activation_offloading=True)
    config = tiny_llama(300, hidden_size=256).config  # 1,024 tokens have 1 MiB of hidden states
    setting = setting_of(recipe.model, recipe.train, config, torch.float32)
    loop = rehearsed_loop(recipe, config, "cuda")
    place = Place("cuda", 0.5, None)
    found = memory(recipe, setting, batches((1024, 30)), None, place, loop)
    step = step_bytes(setting, batch(1024, 30), loop)
    assert found.offloaded * GIB == pytest.approx(step.offloaded)
    assert step.offloaded > 2**20
    assert found.activations * GIB == pytest.approx(1.05 * step.activations)
    assert found.peak == pytest.approx(sum(parts(found).values()))


def test_a_step_needs_the_larger_share_of_its_two_rooms():
    step = Transient(activations=3.0, logits=1.0, offloaded=10.0)
    assert needed(step, 8.0, None) == 4.0
    assert needed(step, None, 20.0) == 4.0
    assert needed(step, 8.0, 40.0) == 4.0  # half of the device's, a quarter of the host's
    assert needed(step, 8.0, 10.0) == 8.0
    assert needed(step, 8.0, 5.0) == 16.0


def test_where_the_host_has_no_room_layers_recompute_so_that_less_is_offloaded():
    recipe = recipe_with(train__activation_offloading=True)
    config = tiny_llama(300, hidden_size=256, num_hidden_layers=8).config
    setting = setting_of(recipe.model, recipe.train, config, torch.float32)
    loop, rows = rehearsed_loop(recipe, config, "cuda"), batches((1024, 30))

    def recomputed(host):
        found = memory(recipe, setting, rows, None, Place("cuda", 0.5, 100.0, host), loop)
        return found.recomputed_layers, found.offloaded

    number, all_of_it = recomputed(None)
    assert number == 0
    number, half = recomputed(all_of_it / 2)
    assert 0 < number < 8
    assert half <= all_of_it / 2


def test_the_file_of_a_quantized_base_stays_mapped_as_far_as_it_is_used():
    config = tiny_llama(5000).config
    whole, _ = seen(config)
    packed, _ = seen(config, model__load_in_4bit=True)
    linear = 2 * (2 * 1024 + 2 * 512 + 3 * 2048)
    assert (packed.others - whole.others) * GIB == pytest.approx(4 * linear)
    config.dtype = torch.bfloat16  # then the embeddings are converted, and nothing is used
    other, _ = seen(config, model__load_in_4bit=True)
    assert other.others == pytest.approx(whole.others)


def test_states_in_8_bits_are_a_quarter():
    plain, _ = seen()
    small, _ = seen(train__optim="adamw_bnb_8bit")
    assert small.optimizer / plain.optimizer == pytest.approx(0.254, abs=0.001)


DEEP = {"num_hidden_layers": 10}


@pytest.mark.parametrize("number", [0, 1, 4, 10])
def test_auto_recomputes_as_few_layers_as_the_room_asks_for(number):
    config = tiny_llama(300, **DEEP).config
    peaks = [seen(config, train__gradient_checkpointing=n or False)[0].peak for n in range(11)]
    assert np.all(np.diff(peaks[:9]) < 0)
    found, _ = seen(config, room=peaks[number] + 1e-9, train__gradient_checkpointing="auto")
    first = next(n for n in range(11) if peaks[n] <= peaks[number] + 1e-9)
    assert found.recomputed_layers == first
    assert found.peak == pytest.approx(peaks[first])


def test_without_room_enough_auto_does_what_it_can():
    config = tiny_llama(300, **DEEP).config
    peaks = [seen(config, train__gradient_checkpointing=n or False)[0].peak for n in range(11)]
    found, _ = seen(config, room=0.01, train__gradient_checkpointing="auto")
    assert found.peak == pytest.approx(min(peaks))


def test_where_the_memory_is_not_known_nothing_recomputes():
    assert seen(train__gradient_checkpointing="auto")[0].recomputed_layers == 0
