"""Lets the layers of a model recompute their activations, as many of them as need be.

The fast path has a parameter for it; the modules of transformers ask a flag of each layer.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from burnish.models.lora import base_of

if TYPE_CHECKING:
    from burnish.training.backends import Backend


def recompute_layers(model: Any, number: int, **options: Any) -> None:
    """Makes the first so many layers recompute, and the others not.

    In a model whose layers have no flags of their own, all do, or none.

    Args:
        model: a model of transformers, with or without adapter.
        number: how many layers recompute.
        options: for torch.utils.checkpoint.checkpoint.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    base = base_of(model)
    # transformers 5 gave the methods another name.
    name = "activation" if hasattr(base, "activation_checkpointing_enable") else "gradient"
    if not number:
        getattr(base, f"{name}_checkpointing_disable")()
        return
    wanted = {f"{name}_checkpointing_kwargs": {"use_reentrant": False, **options}}
    getattr(base, f"{name}_checkpointing_enable")(**wanted)
    layers = [m for m in base.modules() if isinstance(m, GradientCheckpointingLayer)]
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index < number


def recomputing(backend: Backend, model: Any, number: int) -> Backend:
    """The backend with the first so many layers of the model recomputing."""
    if backend.name == "fast":
        loss_sum: Any = backend.loss_sum
        return replace(backend, loss_sum=partial(loss_sum, num_recomputed=number))
    recompute_layers(model, number)
    return backend
