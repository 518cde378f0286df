"""What a run writes to disk, by part."""

from __future__ import annotations

from typing import Any

import torch

from burnish.planning.memory import OPTIMIZER_BYTES
from burnish.planning.shape import empty_model, num_parameters, quantizable
from burnish.recipe import Recipe

BYTES_PER_TOKEN = 16
"""A prepared token: id and label in 32 bits each, and its text, twice in part."""


def disk_bytes(
    recipe: Recipe, config: Any, *, num_trained: int, num_tokens: int, num_checkpoints: int
) -> dict[str, int]:
    """Bytes of prepared rows, checkpoints, merged and quantized model.

    Args:
        recipe: the recipe.
        config: the model's configuration.
        num_trained: weights of the adapter.
        num_tokens: tokens of all rows.
        num_checkpoints: how many are written in all.
    """
    model = empty_model(config, torch.float32)
    state = 4 + OPTIMIZER_BYTES[recipe.train.optim]
    keep = recipe.train.save_total_limit
    # One more lies there while it is written.
    copies = (num_checkpoints if keep is None else min(keep, num_checkpoints)) + 1
    return {
        "prepared rows": num_tokens * BYTES_PER_TOKEN,
        "checkpoints and adapter": int(num_trained * (state * copies + 4)),
        "merged model": num_parameters(model) * _merged_width(recipe, config),
        "quantized model": _quantized(recipe, model),
    }


def _merged_width(recipe: Recipe, config: Any) -> int:
    own = getattr(config, "dtype", None) or torch.float32
    kind = own if recipe.merge.dtype == "auto" else getattr(torch, recipe.merge.dtype)
    return int(kind.itemsize)


def _quantized(recipe: Recipe, model: Any) -> int:
    """Bits and scales of the linear layers; the rest in float16."""
    linear = sum(module.weight.numel() for _, module in quantizable(model))
    settings = recipe.quantize
    group = settings.group_size if settings.group_size > 0 else 4096
    scales = (2 + settings.bits / 8) / group
    rest = num_parameters(model) - linear
    return int(linear * (settings.bits / 8 + scales) + 2 * rest)
