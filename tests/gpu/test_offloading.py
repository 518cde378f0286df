"""Activations in pinned memory: less of the GPU's, the same gradients, and nothing overwritten."""

from __future__ import annotations

import pytest
import torch

from burnish.training.accumulation import Accumulation, Packing
from burnish.training.backends import choose_backend
from burnish.training.loss import PLAIN
from burnish.training.offloading import PinnedMemory, offloading
from burnish.training.recomputing import recomputing
from tests.gpu.test_kernels import GPU, WIDE
from tests.training.family import adapted, build, records, take_gradients, worst_difference

pytestmark = pytest.mark.gpu

DEEP = {**WIDE, "num_hidden_layers": 12}
RECORDS = records([200] * 20, prefix=0)
"""A row of 4,000 tokens: 4 MiB for its hidden states in float32."""


def test_what_was_stored_comes_back_though_its_memory_is_used_again_at_once():
    host, kept = PinnedMemory(GPU), []
    for number in range(50):
        data = torch.full((2**22,), number, device=GPU)
        kept.append(host.store(data))
        host.settle(kept[-1])
        del data  # the next one takes its place
    assert all(copy.is_pinned() for copy, _ in kept)
    for number, one in enumerate(kept):
        assert bool((host.load(one) == number).all())


def step(model, backend):
    """Gradients of a step, and the most bytes of the GPU that it held."""
    learning = [p for p in model.parameters() if p.requires_grad]
    work = Accumulation(backend, Packing(4000, share_prefixes=False), learning, GPU)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    work.backward(RECORDS, scale=1e-3)
    torch.cuda.synchronize()
    return take_gradients(model), torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("backend", ["transformers", "fast"])
@pytest.mark.parametrize(("num_recomputed", "share"), [(0, 0.6), (12, 1.0)])
def test_a_step_takes_less_of_the_gpu_and_gives_the_same_gradients(backend, num_recomputed, share):
    model = adapted(build("Llama", **DEEP)).to(GPU)
    chosen = choose_backend(model, RECORDS, wanted=backend, terms=PLAIN)
    model.train()
    chosen = recomputing(chosen, model, num_recomputed)
    step(model, chosen)  # what kernels take once
    expected, most = step(model, chosen)
    found, least = step(model, offloading(chosen, model))
    assert worst_difference(found, expected) < 1e-5
    assert least < share * most
