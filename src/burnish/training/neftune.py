"""Noise on the embeddings while training.

Each token's embedding [d] of a record with L tokens gets noise that is uniform within ± α / √(L d).
Records of a packed row each count their own L, so packing changes nothing of it.

Source: Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from burnish.training.comparison import LossSum
from burnish.training.packing import Row


def with_noise(loss_sum: LossSum, embedding: nn.Module, alpha: float) -> LossSum:
    """The loss of a row with noise on its embeddings, as long as these are in training mode.

    Args:
        loss_sum: what computes the loss of a row by the model's own forward.
        embedding: the model's input embeddings.
        alpha: the strength of the noise.
    """

    def noisy(row: Row) -> Tensor:
        if not embedding.training:
            return loss_sum(row)
        width = alpha / record_lengths(row).sqrt()[:, None]  # [T, 1]

        def add(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            noise = torch.empty_like(output).uniform_(-1, 1)  # [1, T, d]
            noise *= (width / output.shape[-1] ** 0.5).to(output)
            return output + noise

        hook = embedding.register_forward_hook(add)
        try:
            return loss_sum(row)
        finally:
            hook.remove()

    return noisy


def record_lengths(row: Row) -> Tensor:
    """How many tokens the record of each token has, [T], for rows without shared prefixes."""
    lengths = torch.ones(len(row), device=row.input_ids.device)  # padding, if any, counts as one
    for segment in row.segments:
        lengths[segment.start : segment.stop] = len(segment)
    return lengths
