"""What a plan counts for Liger's kernels, which it does not run: by hand."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest
import torch

from burnish.planning.step import Setting, step_bytes
from burnish.recipe import TrainSection
from burnish.training import liger_shapes
from burnish.training.liger_shapes import keep_as_liger, takes_liger
from burnish.training.rehearsal import loop_of
from tests.conftest import tiny_llama
from tests.planning.made_up import batch, recipe_with


@pytest.fixture
def installed(monkeypatch):
    def have(there=True):
        spec = ModuleSpec("liger_kernel", None) if there else None
        monkeypatch.setattr(liger_shapes.importlib.util, "find_spec", lambda name: spec)

    have()
    return have


def saved_by(run):
    """The shapes and widths of what is saved for the backward pass, and the result."""
    saved = []
    pack = lambda x: saved.append((tuple(x.shape), x.element_size())) or x  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        return run(), saved


def test_a_norm_keeps_its_input_and_a_float32_number_of_every_token():
    model = tiny_llama(32).to(torch.bfloat16)
    keep_as_liger(model)
    x = torch.zeros(1, 7, 16, dtype=torch.bfloat16, requires_grad=True)
    y, saved = saved_by(lambda: model.model.norm(x))
    assert saved == [((1, 7, 16), 2), ((1, 7), 4)]
    y.sum().backward()
    assert (y.shape, y.dtype, x.grad.shape) == (x.shape, x.dtype, x.shape)


def test_a_gated_mlp_keeps_gate_and_up_but_not_what_goes_between_them():
    model = tiny_llama(32)
    keep_as_liger(model)
    mlp = model.model.layers[0].mlp
    width = mlp.gate_proj.out_features
    for parameter in mlp.parameters():
        parameter.requires_grad_(False)
    x = torch.zeros(7, mlp.gate_proj.in_features, requires_grad=True)
    y, saved = saved_by(lambda: mlp(x))
    inputs = [entry for entry in saved if entry[0] == (7, width)]
    assert inputs == [((7, width), 4)] * 2
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    "on, wanted, there, taken",
    [
        ("cuda", "auto", True, True),
        ("cuda", True, True, True),
        ("cuda", False, True, False),
        ("cuda", "auto", False, False),
        ("cpu", "auto", True, False),
    ],
)
def test_a_plan_counts_them_where_training_would_take_them(on, wanted, there, taken, installed):
    installed(there)
    assert takes_liger(TrainSection(use_liger_kernel=wanted), on) is taken


def test_a_step_on_a_gpu_takes_less_by_them(installed):
    config = tiny_llama(300, hidden_size=512, intermediate_size=1024).config
    recipe = recipe_with()
    setting = Setting(config, recipe.train, None, torch.bfloat16)
    totals = []
    for there in (False, True):
        installed(there)
        loop = loop_of(recipe.model, recipe.train, config, "cuda")
        totals.append(step_bytes(setting, batch(512, 30, records=8), loop).total)
    assert totals[1] < 0.9 * totals[0]
