import dataclasses
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from burnish.planning.live import HostBytes, LiveBytes
from burnish.training import offloading as module
from burnish.training.backends import Backend
from burnish.training.llama.attention import ROUND, _blocks, _future
from burnish.training.llama.model import read_model
from burnish.training.offloading import IN_FLIGHT, PinnedMemory, offloading, saved_on
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from burnish.training.recomputing import recompute_layers
from tests.training.family import SIZES, adapted, build, records, take_gradients

HIDDEN = SIZES["hidden_size"]


class Copies:
    """A host in the same memory; it notes the bytes that come, and how often they go back."""

    def __init__(self):
        self.stored, self.num_loads, self.events, self._data = [], 0, [], []

    def store(self, data):
        assert data.dim() == 1
        self.events.append(f"store {len(self.stored)}")
        self.stored.append(data.nbytes)
        self._data.append(weakref.ref(data))
        return len(self.stored) - 1, data.clone()

    def settle(self, kept):
        number, _ = kept
        assert self._data[number]() is not None  # nobody may have been given its memory yet
        self.events.append(f"settle {number}")

    def load(self, kept):
        self.num_loads += 1
        return kept[1].clone()

    def num_alive(self):
        return sum(ref() is not None for ref in self._data)


def a_model():
    """A weight of 1,024 bytes, and a buffer of 512."""
    model = nn.Linear(16, 16, bias=False)
    model.register_buffer("factor", torch.full((8, 16), 2.0))
    return model


# --- what moves -------------------------------------------------------------------------------


@pytest.mark.parametrize(("smallest", "stored"), [(512, [512]), (513, [])])
def test_what_is_large_enough_moves_and_parameters_stay(smallest, stored):
    # x [8, 16] has 512 bytes and is saved for the weight's gradient; the weight's transpose, a
    # view of it with 1,024, for that of x.
    model, host = a_model(), Copies()
    x = torch.randn(8, 16, requires_grad=True)
    with saved_on(host, model, smallest=smallest):
        y = model(x)
    assert host.stored == stored
    y.sum().backward()
    torch.testing.assert_close(x.grad, model.weight.detach().sum(0).expand(8, 16))
    torch.testing.assert_close(model.weight.grad, x.detach().sum(0).expand(16, 16))


def test_buffers_stay():
    model, host = a_model(), Copies()
    x = torch.randn(8, 16, requires_grad=True)
    with saved_on(host, model, smallest=1):
        y = x * model.factor
    assert host.stored == []
    y.sum().backward()
    assert torch.equal(x.grad, model.factor)


def test_what_lies_on_another_device_than_the_model_stays():
    host = Copies()
    x = torch.randn(8, 16, requires_grad=True)
    with saved_on(host, nn.Linear(2, 2, device="meta"), smallest=1):
        y = x.exp() * x
    assert host.stored == []
    y.sum().backward()


def test_a_storage_moves_once_however_many_of_its_views_are_saved():
    # q, k and v [8, 16] are views of one product of 1,536 bytes; q k has 512.
    host, x = Copies(), torch.randn(8, 48, requires_grad=True)
    with saved_on(host, a_model(), smallest=1000):
        q, k, v = (x * 2).chunk(3, 1)
        loss = (q * k * v).sum()
    assert host.stored == [1536]
    loss.backward()
    assert host.num_loads == 1
    first, second, third = x.detach().chunk(3, 1)
    expected = torch.cat([second * third, first * third, first * second], 1) * 8
    torch.testing.assert_close(x.grad, expected)


def test_what_is_spread_over_many_places_comes_back_spread():
    host, x = Copies(), torch.randn(64, 16, requires_grad=True)
    mask = torch.arange(16.0).expand(64, 16)  # 64 bytes that look like 4,096
    with saved_on(host, a_model(), smallest=64):
        y = x * mask
    assert host.stored == [64]
    back = y.grad_fn._saved_other
    assert back.stride() == (0, 1)
    assert torch.equal(back, mask)
    assert back.data_ptr() != mask.data_ptr()


def test_a_storage_that_was_written_to_moves_again():
    host, weight = Copies(), torch.ones(256, requires_grad=True)
    with saved_on(host, a_model(), smallest=1024):
        factor = torch.ones(256)
        first = weight * factor
        factor += 1
        second = weight * factor
    assert host.stored == [1024, 1024]
    (first + second).sum().backward()
    assert torch.equal(weight.grad, torch.full((256,), 3.0))  # 1 + 2


def test_what_the_backward_pass_used_is_given_back():
    host, x = HostBytes(), torch.randn(256, requires_grad=True)
    with saved_on(host, a_model(), smallest=1024):
        loss = x.exp().sum()
    assert host.live == 1024
    loss.backward()
    assert host.live == 0


# --- on its way -------------------------------------------------------------------------------


def test_few_storages_are_on_their_way_at_a_time_and_none_when_the_forward_pass_ends():
    host, x = Copies(), torch.zeros(256, requires_grad=True)
    with saved_on(host, a_model(), smallest=1024):
        y = x
        for _ in range(IN_FLIGHT + 2):
            y = y.exp()  # saves its result
        assert host.num_alive() == IN_FLIGHT
    begun = [f"store {n}" for n in range(IN_FLIGHT + 1)]
    rest = [f"settle {n}" for n in range(2, IN_FLIGHT + 2)]
    assert host.events == [*begun, "settle 0", f"store {IN_FLIGHT + 1}", "settle 1", *rest]
    assert host.num_alive() == 0


def test_nothing_is_on_its_way_after_a_forward_pass_that_failed():
    host, x = Copies(), torch.zeros(256, requires_grad=True)
    weight = torch.zeros(3, 3)
    with pytest.raises(RuntimeError, match="shapes"), saved_on(host, a_model(), smallest=1024):
        x.exp() @ weight
    assert host.events == ["store 0", "settle 0"]


class Stream:
    """A stream of a GPU that only notes what it is told."""

    def __init__(self, name, log):
        self.name, self._log = name, log

    def __enter__(self):
        self._log.append(f"on {self.name}:")

    def __exit__(self, *_):
        self._log.append("end")

    def wait_stream(self, other):
        self._log.append(f"{self.name} waits for {other.name}")

    def record_event(self):
        self._log.append(f"{self.name} marks")
        return "the mark"

    def wait_event(self, event):
        self._log.append(f"{self.name} waits for {event}")


def test_copies_wait_for_what_is_copied_and_work_waits_for_copies(monkeypatch):
    log = []
    leaving, computing = Stream("leaving", log), Stream("computing", log)
    empty = torch.empty

    def pinned(*shape, pin_memory, **options):
        log.append(f"pinned: {pin_memory}")
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: leaving)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    host, data = PinnedMemory(torch.device("cpu")), torch.arange(5.0)
    kept = host.store(data)
    copied = ["pinned: True", "leaving waits for computing", "on leaving:", "end", "leaving marks"]
    assert log == copied
    host.settle(kept)
    assert torch.equal(host.load(kept), data)
    assert log == [*copied, "computing waits for the mark", "computing waits for the mark"]


# --- through both back ends -------------------------------------------------------------------


def a_row():
    (row,) = pack(records((30, 41, 37)), 1000, share_prefixes=False)
    assert len(row) % ROUND == 0  # so that the fast path takes it as it is
    return row


def gradients_of(model, loss_sum, host=None, smallest=256):
    """The gradients of a row's loss, by way of a host or without."""
    if host is None:
        loss = loss_sum(a_row())
    else:
        with saved_on(host, model, smallest=smallest):
            loss = loss_sum(a_row())
    loss.backward()
    return take_gradients(model)


def loss_of(model, backend, num_recomputed):
    if backend == "fast":
        return partial(read_model(model).loss_sum, num_recomputed=num_recomputed)
    recompute_layers(model, num_recomputed)
    return PackedModel(model).loss_sum


@pytest.mark.parametrize("num_recomputed", [0, 1, 2])
@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("Llama", "fast"),
        ("Qwen3", "fast"),
        ("Llama", "transformers"),
        ("GPTNeoX", "transformers"),
    ],
)
def test_gradients_are_the_same_as_without(kind, backend, num_recomputed):
    settings = {"num_key_value_heads": None} if kind == "GPTNeoX" else {}
    model = adapted(build(kind, **settings)).train()
    loss_sum = loss_of(model, backend, num_recomputed)
    expected = gradients_of(model, loss_sum)
    host = Copies()
    found = gradients_of(model, loss_sum, host)
    assert host.num_loads == len(host.stored) > 0
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize("kind", ["Llama", "GPTNeoX"])
def test_gradients_of_all_weights_are_the_same_where_autocast_made_what_is_saved(kind):
    settings = {"num_key_value_heads": None} if kind == "GPTNeoX" else {}
    model = build(kind, **settings).train()

    def loss_sum(row):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return PackedModel(model).loss_sum(row)

    expected = gradients_of(model, loss_sum)
    found = gradients_of(model, loss_sum, Copies())
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


def test_of_layers_that_recompute_the_inputs_move():
    row, model = a_row(), adapted(build("Llama")).train()
    its_input, chosen = 4 * HIDDEN * len(row), 4 * HIDDEN * len(row.targets)
    fast = Copies()
    gradients_of(model, loss_of(model, "fast", 2), fast, smallest=its_input)
    assert fast.stored == [its_input, its_input]
    own = Copies()
    gradients_of(model, loss_of(model, "transformers", 2), own, smallest=chosen)
    assert own.stored[:2] == [its_input, its_input]


def test_the_fast_path_keeps_nothing_that_is_not_asked_about(monkeypatch):
    monkeypatch.setattr("burnish.training.llama.attention.MOST_KEPT", 100)  # heads are narrow here
    row, model = a_row(), adapted(build("Llama"))
    loss_sum = loss_of(model, "fast", 0)
    loss_sum(row)
    blocks = [b for s in row.segments for b in _blocks(s, len(row), torch.float32)]
    sizes = {block.last - block.first for block in blocks}
    masks = [_future(size, torch.float32, row.input_ids.device) for size in sizes]  # for good
    known = [*masks, row.position_ids, row.predictors, row.targets, *model.parameters()]
    host = HostBytes()
    with LiveBytes([*known, *model.buffers()]) as live:
        with saved_on(host, model, smallest=1):
            loss = loss_sum(row)
        left = live.live
    width = HIDDEN // SIZES["num_attention_heads"]
    rotation = 4 * len(row) * (2 * width + 2 * width // 2)  # cos, sin; for queries only halves
    last_norm = 4 * len(row.targets)  # a factor for every predictor
    gradient = 4 * len(row.targets) * HIDDEN  # of the loss, which is made with it
    room = sum(p.nbytes for p in model.parameters() if p.requires_grad)  # for their gradients
    assert left == rotation + last_norm + gradient + room + loss.nbytes
    assert host.live > 20 * left


def test_a_backend_computes_its_rows_in_such_a_context(monkeypatch):
    model, host, asked = adapted(build("Llama")).train(), Copies(), []
    monkeypatch.setattr(module, "PinnedMemory", lambda device: asked.append(device) or host)
    monkeypatch.setattr(module, "saved_on", partial(saved_on, smallest=256))
    backend = Backend("transformers", PackedModel(model).loss_sum, False, why="a test")
    changed = offloading(backend, model)
    assert asked == [torch.device("cpu")]
    assert dataclasses.replace(changed, loss_sum=backend.loss_sum) == backend
    expected = gradients_of(model, backend.loss_sum)
    found = gradients_of(model, changed.loss_sum)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert host.num_loads == len(host.stored) > 0
