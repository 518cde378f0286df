from dataclasses import replace

import pytest

from burnish.planning.cluster import (
    Link,
    Shares,
    _layer_gib,
    all_reduce_seconds,
    by_way,
    cluster_look,
    ring_seconds,
)
from burnish.planning.memory import Memory
from burnish.planning.step import build
from burnish.planning.step_time import Pace
from tests.planning.made_up import RECIPE, batches, outlook_of, recipe_with

GIB = 2**30
LINK = Link(bandwidth=1e6, latency=0.001, source="made up")


def test_around_a_ring_of_four_each_sends_three_quarters_in_three_messages():
    # 750,000 bytes at 1 MB/s, and 3 messages a call.
    assert ring_seconds(1e6, 1, 4, LINK) == pytest.approx(0.75 + 0.003)
    assert ring_seconds(1e6, 5, 4, LINK) == pytest.approx(0.75 + 0.015)


def test_an_all_reduce_goes_around_twice():
    assert all_reduce_seconds(1e6, 1, 2, LINK) == pytest.approx(1.0 + 0.002)
    assert all_reduce_seconds(1e6, 1, 4, LINK) == pytest.approx(1.5 + 0.006)


def test_copies_into_buckets_take_their_time_once():
    link = Link(bandwidth=1e6, latency=0.0, source="made up", copying=1e-7)
    assert all_reduce_seconds(1e6, 1, 2, link) == pytest.approx(1.0 + 0.1)


def test_alone_nothing_is_sent():
    assert all_reduce_seconds(1e6, 1, 1, LINK) == 0


def test_a_given_link_is_in_gigabytes_and_microseconds():
    link = Link.given(12.5, 20)
    assert (link.bandwidth, link.latency) == (12.5e9, pytest.approx(2e-5))
    assert link.source == "given: 12.5 GB/s, 20 us a message"


def shares(**changes):
    """Ten layers of 0.5 GiB, adapters of 0.1 each in all, and 1 GiB in no layer."""
    memory = Memory(
        dtype="float32",
        weights=5.9,
        adapters=0.1,
        gradients=0.1,
        optimizer=0.2,
        activations=2.0,
        logits=0.5,
        others=1.0,
        peak=9.8,
        worst_moment="training",
        recomputed_layers=0,
    )
    values = {"layer_gib": 0.5, "num_layers": 10, "trained_gib": 0.1}
    values |= {"num_buckets": 1, "rows_per_step": 3.0}
    return Shares(memory=memory, **values | changes)


FAST = Link(bandwidth=GIB, latency=0.0, source="a GiB a second")


def test_memory_of_four_by_what_they_share():
    found = by_way(shares(), 4, FAST, None)
    assert found["ddp"].memory_gib == 9.8
    # Three quarters of gradients and optimizer are elsewhere.
    assert found["zero2"].memory_gib == pytest.approx(9.8 - 0.75 * 0.3)
    # And of 6 GiB of weights and adapters all but two layers and what is in none: 4.
    assert found["fsdp2"].memory_gib == pytest.approx(9.8 - 0.75 * (0.3 + 4.0))


def test_a_model_of_two_layers_is_whole_while_it_is_at_work():
    found = by_way(shares(num_layers=2, layer_gib=3.0), 4, FAST, None)
    assert found["fsdp2"].memory_gib == pytest.approx(9.8 - 0.75 * 0.3)


def test_seconds_of_two_by_what_they_send():
    found = by_way(shares(), 2, FAST, 10.0)
    # Gradients of 0.1 GiB: half of them each way.
    assert found["ddp"].seconds_of_communication == pytest.approx(0.1, abs=1e-4)
    assert found["zero2"].seconds_of_communication == pytest.approx(0.1, abs=1e-4)
    # 3 rows, forward and back: six times half of 6 GiB, and half of the gradients.
    assert found["fsdp2"].seconds_of_communication == pytest.approx(18.05, abs=1e-4)
    assert found["fsdp2"].communicated_gib == pytest.approx(18.05)
    assert [found[way].seconds_per_step for way in found] == [10.1, 10.1, 28.05]


def test_each_message_waits():
    slow = Link(bandwidth=1e15, latency=0.01, source="far away")
    found = by_way(shares(num_buckets=4), 2, slow, None)
    # An all-reduce of two is two messages; the step has three short sums beside.
    assert found["ddp"].seconds_of_communication == pytest.approx((4 + 3) * 0.02)
    assert found["zero2"].seconds_of_communication == pytest.approx((1 + 3) * 0.02)
    # Eleven units, gathered six times and scattered once, a message each.
    assert found["fsdp2"].seconds_of_communication == pytest.approx(77 * 0.01 + 3 * 0.02)
    assert found["ddp"].seconds_per_step is None


def test_a_step_is_the_rows_of_a_process_and_what_it_sends():
    # Two rows a step: 16 records, 8 a step, four rows. 100 FLOPs/s.
    part = outlook_of(RECIPE, 1.0, training=batches(*[(10, 5)] * 4))
    pace = Pace(fixed=1.0, rate=1e15, cpu_share=1.0, measured="made up")
    look = cluster_look(part, 2, FAST, pace)
    assert look.processes == 2
    assert look.link == "a GiB a second"
    assert look.ways["ddp"].seconds_per_step == pytest.approx(2.0, abs=0.01)
    assert look.ways["ddp"].memory_gib == 1.0
    assert cluster_look(part, 2, FAST, None).ways["ddp"].seconds_per_step is None


@pytest.mark.parametrize(
    "changes",
    [
        {"train__method": "full"},
        {"train__method": "freeze", "train__freeze_trainable_layers": ["layers.1"]},
        {"train__lora": {"use_dora": True}},
    ],
    ids=str,
)
def test_what_can_not_be_spread_is_shared_by_ddp_alone(changes):
    part = outlook_of(recipe_with(**changes), 1.0)
    assert list(cluster_look(part, 2, FAST, None).ways) == ["ddp"]


def test_a_quantized_base_is_shared_by_ddp_alone():
    part = outlook_of(RECIPE, 1.0)
    part = replace(part, setting=replace(part.setting, bits=4))
    assert list(cluster_look(part, 2, FAST, None).ways) == ["ddp"]


def test_of_layers_that_are_not_alike_the_mean_counts():
    part = outlook_of(RECIPE, 1.0)
    layer = 4 * (2 * 1024 + 2 * 512 + 3 * 2048 + 64)
    adapter = 4 * 16 * (2 * 64 + 2 * 48 + 3 * 96)
    assert _layer_gib(build(part.setting)) * GIB == pytest.approx(layer + adapter)
    one_layer = {"target_modules": ["layers.1.self_attn.q_proj"]}
    part = outlook_of(recipe_with(train__lora=one_layer), 1.0)
    assert _layer_gib(build(part.setting)) * GIB == pytest.approx(layer + 4 * 16 * 64 / 2)
    assert list(cluster_look(part, 2, FAST, None).ways) == ["ddp", "zero2", "fsdp2"]
