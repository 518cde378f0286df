"""What Liger's kernels keep for the backward pass, for a plan that runs none of them.

A plan counts what a model of fake tensors keeps (planning/step.py). Liger's norm keeps its input
and a number a token, and gives back its gradient in place; its gated MLP keeps gate and up alone
and writes their gradients over them. These stand-ins keep and make as much, and compute nothing.

Source: Hsu et al. 2024, "Liger Kernel"; liger-kernel 0.8.5.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import torch
from torch import Tensor

from burnish.recipe import TrainSection


def takes_liger(train: TrainSection, on: str) -> bool:
    """Whether training on a kind of device would try Liger's kernels, as far as is known here."""
    installed = importlib.util.find_spec("liger_kernel") is not None
    return on == "cuda" and train.use_liger_kernel is not False and installed


def keep_as_liger(model: Any) -> None:
    """Lets the norms and gated MLPs of a model keep what Liger's would."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight"):
            module.forward = _norm
        elif all(hasattr(module, f"{name}_proj") for name in ("gate", "up", "down")):
            module.forward = partial(_mlp, module)


def _norm(x: Tensor) -> Tensor:
    result: Tensor = _Norm.apply(x)  # type: ignore[no-untyped-call]
    return result


def _mlp(module: Any, x: Tensor) -> Tensor:
    made = _Gated.apply(module.gate_proj(x), module.up_proj(x))  # type: ignore[no-untyped-call]
    result: Tensor = module.down_proj(made)
    return result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Keeps x [..., width] and a float32 number of every row."""
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient in its own place."""
        return gradients[0]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Keeps both, and makes silu(gate) up."""
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients in place of what was kept."""
        gate, up = ctx.saved_tensors
        return gate, up
