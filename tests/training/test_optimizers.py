"""Optimizers: Muon with AdamW by hand, LoRA+'s rates, and what is refused by trying it."""

from __future__ import annotations

import copy

import pytest
import torch

from burnish.errors import RecipeError
from burnish.models.trainable import make_trainable
from burnish.recipe import TrainSection
from burnish.training import optimizers
from burnish.training.arguments import training_arguments
from burnish.training.optimizers import (
    MuonWithAdamW,
    check_optimizer,
    make_optimizer,
    split_matrices,
)
from tests.conftest import tiny_llama


def section(**settings):
    return TrainSection.model_validate(settings)


def parameter(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = torch.nn.Parameter(torch.randn(shape, generator=generator))
    made.grad = torch.randn(shape, generator=generator)
    return made


# --- Muon ------------------------------------------------------------------------------------


def test_a_matrix_moves_as_muon_moves_it_and_a_vector_as_adamw():
    matrix, vector = parameter(6, 4), parameter(5)
    one, two = copy.deepcopy(matrix), copy.deepcopy(vector)
    one.grad, two.grad = matrix.grad.clone(), vector.grad.clone()
    both = MuonWithAdamW([matrix], [vector], lr=0.1, weight_decay=0.5)
    muon = torch.optim.Muon([one], lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([two], lr=0.1, weight_decay=0.0)
    for optimizer in (both, both, muon, muon, adamw, adamw):
        optimizer.step()
    assert torch.equal(matrix, one)
    assert torch.equal(vector, two)


def test_a_step_of_muon_is_a_fifth_of_the_rate_a_weight():
    """An orthogonal [16, 64] has 16 singular values of 1: 16 / (16 · 64) a weight, squared."""
    matrix = parameter(16, 64)
    before = matrix.detach().clone()
    MuonWithAdamW([matrix], [], lr=1.0, weight_decay=0.0).step()
    size = float((matrix.detach() - before).square().mean().sqrt())
    assert size == pytest.approx(0.2, rel=0.2)  # Newton-Schulz leaves them between 0.7 and 1.2


def test_a_saved_state_goes_on_as_if_it_had_not_been_saved():
    def made():
        matrix, vector = parameter(6, 4), parameter(5)
        return matrix, vector, MuonWithAdamW([matrix], [vector], lr=0.1, weight_decay=0.1)

    matrix, vector, first = made()
    first.step()
    state = copy.deepcopy(first.state_dict())
    values = [p.detach().clone() for p in (matrix, vector)]
    first.step()
    other_matrix, other_vector, second = made()
    with torch.no_grad():
        other_matrix.copy_(values[0])
        other_vector.copy_(values[1])
    second.load_state_dict(state)
    second.step()
    assert torch.equal(matrix, other_matrix)
    assert torch.equal(vector, other_vector)


def test_a_schedule_moves_the_rate_of_both():
    optimizer = MuonWithAdamW([parameter(3, 2)], [parameter(2)], lr=1.0, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_a_closure_is_evaluated_with_gradients():
    matrix = parameter(3, 2)
    optimizer = MuonWithAdamW([matrix], [], lr=0.1, weight_decay=0.0)
    found = optimizer.step(lambda: (matrix * 2).sum())
    assert found.requires_grad


@pytest.mark.parametrize("tied", [True, False])
def test_tables_of_tokens_and_norms_are_no_matrices(tied):
    model = make_trainable(tiny_llama(32, tie_word_embeddings=tied), section(method="full"))
    matrices, others = split_matrices(model)
    assert len(matrices) == 2 * 7
    assert len(others) == (1 if tied else 2) + 2 * 2 + 1


def test_every_matrix_of_an_adapter_goes_to_muon(tmp_path):
    model = make_trainable(tiny_llama(32), section(lora={"r": 2}))
    wanted = section(optim="muon", learning_rate=1e-3, lora={"r": 2})
    optimizer = make_optimizer(model, wanted, None)
    assert isinstance(optimizer, MuonWithAdamW)
    (group,) = optimizer.param_groups
    assert (len(group["params"]), group["lr"]) == (2 * 7 * 2, 1e-3)


# --- LoRA+ -----------------------------------------------------------------------------------


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adafactor", "sgd"])
def test_b_learns_at_a_multiple_of_as_rate(tmp_path, optim):
    wanted = section(
        optim=optim, learning_rate=1e-3, weight_decay=0.1, lora={"loraplus_lr_ratio": 8, "r": 2}
    )
    model = make_trainable(tiny_llama(32), wanted)
    args = training_arguments(wanted, tmp_path, has_validation=False)
    optimizer = make_optimizer(model, wanted, args)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)].split(".lora_")[1][0]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert rates == {"A": (1e-3, 0.1), "B": (8e-3, 0.1)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2 * 7 * 2


def test_all_other_optimizers_are_made_by_the_trainer(tmp_path):
    assert make_optimizer(tiny_llama(32), section(), None) is None


# --- refusals --------------------------------------------------------------------------------


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="galore_adamw needs the package galore_torch") as caught:
        check_optimizer(section(method="full", optim="galore_adamw"))
    assert "burnish[galore]" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("cosine_with_restarts", {"cycles": 3}, "cycles"),
        ("cosine_with_min_lr", {}, "min_lr"),
        ("warmup_stable_decay", {}, "num_decay_steps"),
        ("constant", {"num_cycles": 2}, "no effect"),
        ("constant_with_warmup", {"num_cycles": 2}, "no effect"),
    ],
)
def test_a_schedule_is_tried_before_a_model_is_loaded(name, given, said):
    with pytest.raises(RecipeError, match=said) as caught:
        check_optimizer(section(lr_scheduler_type=name, lr_scheduler_kwargs=given))
    assert caught.value.where == "train.lr_scheduler_kwargs"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("linear", {}),
        ("cosine", {"num_cycles": 0.5}),
        ("cosine_with_restarts", {"num_cycles": 3}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1, "warmup_lr_rate": 0.01}),
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("polynomial", {"power": 2.0}),
        ("inverse_sqrt", {"timescale": 100}),
        ("warmup_stable_decay", {"num_decay_steps": 3, "decay_type": "linear"}),
        ("reduce_lr_on_plateau", {"patience": 2, "factor": 0.5}),
    ],
)
def test_every_schedule_takes_what_transformers_gives_it(name, given):
    check_optimizer(section(lr_scheduler_type=name, lr_scheduler_kwargs=given))


def test_galore_in_8_bits_is_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(optimizers, "pick_device", lambda: torch.device("cpu"))
    with pytest.raises(RecipeError, match="runs on GPUs only"):
        check_optimizer(section(method="full", optim="galore_adamw_8bit"))
