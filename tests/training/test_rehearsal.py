import itertools

import pytest
import torch
from peft import get_peft_model
from torch._subclasses.fake_tensor import FakeTensor

from burnish.models.lora import lora_config
from burnish.planning.live import HostBytes, LiveBytes
from burnish.planning.step import Setting, step_bytes
from burnish.recipe import LoraSettings, TrainSection
from burnish.training import rehearsal
from burnish.training.accumulation import Packing
from burnish.training.llama.attention import _future
from burnish.training.offloading import IN_FLIGHT, saved_on
from burnish.training.rehearsal import rehearsed_loop
from tests.conftest import tiny_llama
from tests.planning.made_up import batch, recipe_with, records

TRAIN = TrainSection(lora=LoraSettings(r=4))


@pytest.fixture
def lanes(monkeypatch):
    """Sets how many threads this machine has."""
    return lambda number: monkeypatch.setattr(rehearsal, "set_threads", lambda: number)


@pytest.fixture(autouse=True)
def one_lane(lanes):
    lanes(1)


def loop_of(config=None, on="cpu", processes=1, **changes):
    settings = {f"train__{name}": value for name, value in changes.items()}
    return rehearsed_loop(recipe_with(**settings), config or tiny_llama(300).config, on, processes)


def setting_of(config):
    return Setting(config, TRAIN, None, torch.float32)


@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_a_row_on_fake_tensors_takes_what_a_packed_one_takes(backend):
    config = tiny_llama(300, num_hidden_layers=6).config
    loop = loop_of(config, backend=backend)
    some = records((70, 20), (30, 10), (20, 15))
    (row,) = loop.rows(some).batches
    planned = step_bytes(setting_of(config), row, loop)
    model = get_peft_model(tiny_llama(300, num_hidden_layers=6), lora_config(TRAIN.lora)).train()
    run = loop.run(model, 0)
    with LiveBytes([*model.parameters(), *model.buffers()]) as live:
        run(some)
    # The gradients stay, and are counted with what is kept while the last of them is made.
    assert planned.total == pytest.approx(live.peak, rel=0.1)


def test_recomputing_keeps_less():
    config = tiny_llama(300, num_hidden_layers=20).config
    plain, again = (
        step_bytes(setting_of(config), batch(60, 30), loop_of(), number) for number in (0, 20)
    )
    assert again.total < plain.total / 2


WIDE = {"hidden_size": 512, "intermediate_size": 512}
"""Of 512 tokens the hidden states have 1 MiB in float32: they are large enough to move."""


def test_offloading_is_for_loops_on_a_gpu():
    plain, moved = loop_of(on="cuda"), loop_of(on="cuda", activation_offloading=True)
    assert moved.elsewhere is saved_on
    assert moved != plain  # or one would be given what was traced for the other
    assert loop_of(on="cpu", activation_offloading=True).elsewhere is None


def test_what_autocast_computes_is_not_taken_for_what_is_computed_without_it():
    on_cpu, on_gpu = (loop_of(on=on, backend="transformers", bf16=True) for on in ("cpu", "cuda"))
    assert on_cpu != on_gpu


def test_of_layers_that_recompute_and_offload_nothing_stays_but_what_is_at_work():
    config = tiny_llama(300, **WIDE).config
    config.num_hidden_layers = 20
    plain, moved = (
        step_bytes(
            setting_of(config),
            batch(512, 30, records=8),
            loop_of(config, on="cuda", backend="fast", activation_offloading=offloads),
            20,
        )
        for offloads in (False, True)
    )
    assert moved.offloaded == 20 * 2**20  # every layer's input
    assert plain.offloaded == 0
    # A few of them are on their way at a time, and one is back.
    assert (20 - IN_FLIGHT - 1) * 2**20 <= plain.total - moved.total <= 20 * 2**20


@pytest.mark.parametrize("number", [0, 2, 6])
@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_an_offloading_step_on_fake_tensors_takes_what_a_real_one_takes(backend, number):
    config = tiny_llama(300, num_hidden_layers=6, **WIDE).config
    row = batch(512, 30, records=8)
    loop = loop_of(config, on="cuda", backend=backend, activation_offloading=True, bf16=False)
    planned = step_bytes(setting_of(config), row, loop, number)
    base = tiny_llama(300, num_hidden_layers=6, **WIDE)
    model, host = get_peft_model(base, lora_config(TRAIN.lora)).train(), HostBytes()
    with LiveBytes([*model.parameters(), *model.buffers()]) as live:
        loss = loop.loss(model, row, number)
        with saved_on(host, model):
            result = loss()
        result.backward()
    assert planned.offloaded == pytest.approx(host.peak, rel=0.02)
    assert host.peak >= 6 * 2**20
    assert planned.total == pytest.approx(live.peak, rel=0.05)


def test_no_tensor_without_data_is_left_in_the_caches():
    step_bytes(setting_of(tiny_llama(300).config), batch(60, 30), loop_of(backend="fast"))
    for size, dtype in itertools.product((64, 30), (torch.float32, torch.bfloat16)):
        assert not isinstance(_future(size, dtype, torch.device("cpu")), FakeTensor)


def lengths(rows):
    return list(rows.lengths)


def test_rows_are_packed_by_the_step_and_one_record_each_without_packing():
    eight = records(*[(400, 200)] * 16)
    assert lengths(loop_of().training(eight)) == [800] * 8
    assert lengths(loop_of(packing=False).training(eight)) == [400] * 16
    assert lengths(loop_of().validation(eight)) == [800] * 8


def test_a_row_has_the_segments_and_the_loss_that_packing_gave_it():
    (row,) = loop_of().rows(records((70, 20), (30, 10))).batches
    assert (row.length, row.supervised) == (100, 30)
    assert row.segments == ((0, 70, 0, 0), (70, 100, 70, 70))


def test_what_records_share_is_computed_once_on_the_fast_path():
    shared = [([7] * 50 + [n] * 20, [-100] * 55 + [n] * 15) for n in range(3)]
    (fast,) = loop_of(backend="fast").rows(shared).batches
    (own,) = loop_of(backend="transformers").rows(shared).batches
    (apart,) = loop_of(share_prefixes=False).rows(shared).batches
    assert (fast.length, own.length, apart.length) == (50 + 3 * 20, 210, 210)
    assert fast.supervised == own.supervised == 45


def test_attention_computes_blocks_of_its_record_or_the_square_of_the_row():
    two = records((64, 20), (64, 10))
    (fast,) = loop_of(backend="fast").rows(two).batches
    (own,) = loop_of(backend="transformers").rows(two).batches
    # A block of 64 queries sees its 64 keys.
    assert fast.scores == 2 * 64 * 64
    assert own.scores == 128**2


def test_rows_go_side_by_side_where_there_are_several_threads(lanes):
    lanes(2)
    rows = loop_of(backend="fast").rows(records(*[(400, 200)] * 8))
    # Four records a lane, in rows of 512 tokens.
    assert rows.lanes == 2
    assert lengths(rows) == [400] * 8
    assert loop_of(backend="transformers").rows(records(*[(400, 200)] * 8)).lanes == 1
    # 256 tokens are not worth a second lane.
    assert loop_of(backend="fast").rows(records((200, 9), (56, 9))).lanes == 1


def test_of_several_processes_each_takes_its_part_of_a_step():
    rows = loop_of(processes=2).training(records(*[(400, 200)] * 16))
    assert lengths(rows) == [800] * 4


def test_smaller_micro_batches_are_shorter_rows():
    assert loop_of().smaller == ({"train.row_length": 512}, {"train.row_length": 256})
    assert loop_of(packing=False).smaller == ()


@pytest.mark.parametrize(
    ("settings", "on", "name"),
    [
        ({}, "cpu", "fast"),
        ({}, "cuda", "transformers"),
        ({"backend": "fast"}, "cuda", "fast"),
        ({"backend": "transformers"}, "cpu", "transformers"),
        ({"torch_compile": True}, "cpu", "transformers"),
        ({"lora": {"lora_dropout": 0.1}}, "cpu", "transformers"),
        ({"method": "full"}, "cpu", "transformers"),
        ({"speed": "int8"}, "cpu", "int8"),
    ],
)
def test_the_backend_is_the_one_that_the_trainer_would_take(settings, on, name):
    assert loop_of(on=on, **settings).name.split()[0] == name


def test_a_model_that_is_not_llama_like_takes_its_own_forward():
    from transformers import GPTNeoXConfig

    config = GPTNeoXConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    assert loop_of(config).name == "transformers"


def test_the_trainers_own_packing_is_asked():
    train = recipe_with(train__row_length=99, train__share_prefixes=False).train
    packer = rehearsal._Packer(train, "fast", 1, torch.float32)
    assert packer.packing == Packing(99, is_on=True, share_prefixes=False)


def test_the_rate_is_a_share_of_this_machines_in_the_models_products():
    model = get_peft_model(tiny_llama(300), lora_config(TRAIN.lora))
    rate, how = loop_of(backend="fast").rate(model, torch.float32)
    assert rate > 1e7
    assert how.startswith("an estimate: 75% of this machine's ")
    assert how.endswith(" GFLOP/s in float32")
