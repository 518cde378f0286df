"""Optimizers that transformers' Trainer does not make by itself: LoRA+'s rates, and Muon.

Everything else goes by its name through TrainingArguments.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from burnish.errors import RecipeError
from burnish.models.loading import pick_device
from burnish.models.lora import base_of
from burnish.recipe import OTHER_OPTIMIZERS, TrainSection

_PROJECTORS = {
    "galore": ("galore_torch.galore_projector", "GaLoreProjector"),
    "apollo": ("apollo_torch.random_projector", "GradientProjector"),
}

_EXTRAS = {"bitsandbytes": "bnb", "galore_torch": "galore", "apollo_torch": "apollo"}


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for matrices, AdamW for everything else, as one optimizer.

    Muon's steps are scaled to the size of AdamW's (0.2 a weight), so both take one learning rate.

    Args:
        matrices: what Muon updates, [n, m] each: LoRA's A and B, or the linear layers of a model.
        others: what AdamW updates: embeddings, head, norms, biases.
        lr: the learning rate of both.
        weight_decay: of the matrices; the others have none.

    Source: Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is Scalable for LLM Training".
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
    ) -> None:
        groups = [
            {"params": matrices, "is_matrix": True, "weight_decay": weight_decay},
            {"params": others, "is_matrix": False, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        super().__init__(groups, {"lr": lr})
        self._muon = torch.optim.Muon(_placeholder(), lr=lr, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(_placeholder(), lr=lr)
        for group in self.param_groups:
            part = self._muon if group["is_matrix"] else self._adamw
            for name, value in part.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; the result of the closure, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, is_matrix in ((self._muon, True), (self._adamw, False)):
            # Set anew each time: loading a state replaces these objects.
            part.state = self.state
            part.param_groups = [g for g in self.param_groups if g["is_matrix"] is is_matrix]
            part.step()  # type: ignore[no-untyped-call]
        return loss


def _placeholder() -> list[nn.Parameter]:
    """A parameter for an optimizer that gets its real ones at each step."""
    return [nn.Parameter(torch.zeros(1, 1))]


def check_optimizer(section: TrainSection) -> None:
    """Refuses an optimizer or a schedule that this installation can't make, by trying.

    Raises:
        RecipeError: names the package or the argument.
    """
    package = OTHER_OPTIMIZERS.get(section.optim)
    if package and importlib.util.find_spec(package) is None:
        raise RecipeError(
            "train.optim",
            f"{section.optim} needs the package {package}, which is not installed.",
            f"Install it with: pip install 'burnish[{_EXTRAS[package]}]'",
        )
    if section.optim == "galore_adamw_8bit" and pick_device().type == "cpu":
        raise RecipeError(
            "train.optim",
            "galore_adamw_8bit runs on GPUs only.",
            "Set optim: galore_adamw.",
        )
    _check_schedule(section)


def _check_schedule(section: TrainSection) -> None:
    from transformers import get_scheduler

    probe = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=section.learning_rate)
    try:
        get_scheduler(
            section.lr_scheduler_type,
            probe,
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=dict(section.lr_scheduler_kwargs),
        )
    except (TypeError, ValueError) as error:
        said = str(error).splitlines()[0].rpartition("get_")[2].rstrip(".")
        raise RecipeError(
            "train.lr_scheduler_kwargs",
            f"{section.lr_scheduler_type} does not take this: {said}.",
            "See transformers' documentation of that schedule for what it takes.",
        ) from None
    if section.lr_scheduler_kwargs and section.lr_scheduler_type.startswith("constant"):
        raise RecipeError(
            "train.lr_scheduler_kwargs",
            f"they have no effect with lr_scheduler_type {section.lr_scheduler_type}.",
            "Take them out.",
        )


def make_optimizer(model: Any, section: TrainSection, args: Any) -> torch.optim.Optimizer | None:
    """The optimizer of a recipe where the Trainer would make another; None where it makes it.

    Args:
        model: what is trained, with its weights on their device.
        section: the recipe's train section.
        args: its TrainingArguments.
    """
    _trust_projectors(section.optim)
    if section.optim == "muon":
        matrices, others = split_matrices(model)
        return MuonWithAdamW(
            matrices, others, lr=section.learning_rate, weight_decay=section.weight_decay
        )
    if section.lora.loraplus_lr_ratio is None:
        return None
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer

    kind, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model,
        kind,
        loraplus_lr_ratio=section.lora.loraplus_lr_ratio,
        loraplus_weight_decay=section.weight_decay,
        **options,
    )
    optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]
    return optimizer


def _trust_projectors(optim: str) -> None:
    """Lets a resume read the projections of GaLore and APOLLO, which are objects in their states.

    torch.load builds no object of a class that is not listed; these hold numbers and tensors.
    """
    for prefix, (module, name) in _PROJECTORS.items():
        if optim.startswith(prefix):
            kind = getattr(importlib.import_module(module), name)
            torch.serialization.add_safe_globals([kind])


def split_matrices(model: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The learning matrices of a model's layers, and all else that learns.

    Embeddings and the head are tables with a row a token, not maps of a hidden state, and rows of
    new tokens likewise: they go with the rest.
    """
    base = base_of(model)
    tables = [base.get_input_embeddings(), base.get_output_embeddings()]
    table_ids = {id(p) for table in tables if table is not None for p in table.parameters()}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            is_matrix = _is_matrix(parameter) and id(parameter) not in table_ids
            (matrices if is_matrix else others).append(parameter)
    return matrices, others


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) > 1
