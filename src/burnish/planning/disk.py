"""What a run writes to disk, by part."""

from __future__ import annotations

from typing import Any

import torch

from burnish.planning.memory import OPTIMIZER_BYTES
from burnish.planning.shape import empty_model, num_parameters, quantizable
from burnish.recipe import Recipe

_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}

BYTES_PER_TOKEN = 16
"""A prepared token: id and label in 32 bits each, and its text, twice in part."""


def disk_bytes(recipe: Recipe, config: Any, *, num_trained: int, num_tokens: int) -> dict[str, int]:
    """Bytes of prepared rows, checkpoints, merged and quantized model.

    Args:
        recipe: the recipe.
        config: the model's configuration.
        num_trained: weights of the adapter.
        num_tokens: tokens of all rows.
    """
    model = empty_model(config, torch.float32)
    state = 4 + OPTIMIZER_BYTES[recipe.train.optim]
    keep = recipe.train.save_total_limit
    # One more lies there while it is written; without a limit, say so by one per epoch.
    copies = (keep if keep is not None else -(-recipe.train.num_train_epochs // 1)) + 1
    return {
        "prepared rows": num_tokens * BYTES_PER_TOKEN,
        "checkpoints and adapter": int(num_trained * (state * copies + 4)),
        "merged model": num_parameters(model) * _merged_width(recipe, config),
        "quantized model": _quantized(recipe, model),
    }


def _merged_width(recipe: Recipe, config: Any) -> int:
    own = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return _WIDTHS[own if recipe.merge.dtype == "auto" else recipe.merge.dtype]


def _quantized(recipe: Recipe, model: Any) -> int:
    """Bits and scales of the linear layers; the rest in float16."""
    linear = sum(module.weight.numel() for _, module in quantizable(model))
    settings = recipe.quantize
    group = settings.group_size if settings.group_size > 0 else 4096
    scales = (2 + settings.bits / 8) / group
    rest = num_parameters(model) - linear
    return int(linear * (settings.bits / 8 + scales) + 2 * rest)
