"""The rate that the work of a step is compared with, and the share of it that is reached."""

from __future__ import annotations

import pytest
import torch

from burnish.planning.work import Layer, Work
from burnish.recipe import LoraSettings
from burnish.training.adapter import add_adapter
from burnish.training.limit import Limit, data_sheet, limit_of, measured_rate
from tests.conftest import tiny_llama


def test_the_share_is_work_over_what_the_time_allows():
    work = Work((Layer(10, 10, 1.0), Layer(5, 10, 1.0, is_head=True)), attention_width=0)
    spent = {"tokens": 100, "supervised": 50, "pairs": 0, "seconds": 2.0, "cpu": 4.0}
    # 100 x 2 x 2 x 100 + 50 x 2 x 2 x 50 = 50,000 FLOPs, of 25,000 or 50,000 possible at 12,500/s.
    assert Limit(work, 12_500.0, "", is_cpu=True).reached(**spent) == 1.0
    assert Limit(work, 12_500.0, "", is_cpu=False).reached(**spent) == 2.0


def test_the_rate_of_a_cpu_is_measured_within_the_time_and_draws_no_random_number():
    import time

    model = add_adapter(tiny_llama(100), LoraSettings(r=4))
    before = torch.random.get_rng_state()
    started = time.perf_counter()
    limit = limit_of(model, torch.float32)
    assert time.perf_counter() - started < 1.5
    assert torch.equal(torch.random.get_rng_state(), before)
    assert limit.is_cpu
    assert "a second of the processor, measured in" in limit.source
    assert "at the model's shapes in float32" in limit.source
    assert 1e8 < limit.rate < 1e13


def test_a_rate_is_that_of_the_shapes_where_the_work_is():
    work = Work((Layer(512, 512, 1.0),), attention_width=0)
    found = measured_rate(work, torch.float32, torch.device("cpu"), seconds=0.1)
    a = torch.ones(512, 512)
    a @ a
    best = min(_seconds(a) for _ in range(10))
    # The same machine at the same work: far apart only if something is counted wrongly.
    assert 0.2 < found / (2 * 512**3 / best) < 5


def _seconds(a):
    import time

    started = time.process_time()
    a @ a
    return max(time.process_time() - started, 1e-9)


@pytest.mark.parametrize(
    "card, teraflops",
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10G", 70),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_a_known_card_has_the_peak_of_its_data_sheet(card, teraflops):
    rate, source = data_sheet(card, torch.bfloat16)
    assert rate == teraflops * 1e12
    assert f"{teraflops} TFLOP a second by the data sheet of the" in source


@pytest.mark.parametrize(
    "card",
    [
        "NVIDIA Unheard Of",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
    ],
)
def test_other_cards_and_parts_of_cards_are_measured(card):
    assert data_sheet(card, torch.bfloat16) is None


def test_other_types_are_measured():
    assert data_sheet("NVIDIA H100 80GB HBM3", torch.float32) is None
