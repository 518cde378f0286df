"""How a training loop makes micro batches of rows, and what it runs on one of them.

The plan asks a loop three things, so that what it says follows the loop's own code: which micro
batches an epoch has, which an evaluation has, and the loss of one, which is run on fake tensors for
its memory and on real ones for its time. The trainer's own loop is `training.rehearsal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.planning.batches import Batch, Ints, MicroBatches, length_grouped, sorted_batches
from burnish.recipe import Recipe
from burnish.scoring import plain_head_decoder

MakeBatches = Callable[[Recipe, Ints, Ints], MicroBatches]


@dataclass(frozen=True, slots=True)
class Loop:
    """A training loop, as far as a plan asks for it.

    Attributes:
        training: recipe, lengths and supervised tokens of the rows -> an epoch's micro batches.
        validation: likewise, for an evaluation.
        loss: a model with its adapter and a batch -> what computes the batch's summed loss. What
            it makes beforehand stays in memory for the whole run.
        smaller: a recipe -> settings that make its micro batches ever smaller, and nothing else.
        forget: empties the loop's caches, in which tensors must not outlive a trace.
    """

    training: MakeBatches
    validation: MakeBatches
    loss: Callable[[Any, Batch], Callable[[], Tensor]]
    smaller: Callable[[Recipe], list[dict[str, Any]]]
    forget: Callable[[], None] = lambda: None


def _padded_training(recipe: Recipe, lengths: Ints, supervised: Ints) -> MicroBatches:
    train = recipe.train
    return length_grouped(
        lengths,
        supervised,
        size=train.per_device_train_batch_size,
        accumulation=train.gradient_accumulation_steps,
        seed=train.seed,
    )


def _padded_validation(recipe: Recipe, lengths: Ints, supervised: Ints) -> MicroBatches:
    return sorted_batches(lengths, supervised, recipe.train.per_device_eval_batch_size)


def padded_loss(model: Any, batch: Batch) -> Callable[[], Tensor]:
    """The loss of a padded batch, by transformers' forward pass and PyTorch's cross entropy."""
    device = next(model.parameters()).device
    ids = torch.zeros((batch.size, batch.length), dtype=torch.long, device=device)
    # A mask of fake tensors counts as one with padding; without padding training needs none.
    mask = torch.ones_like(ids) if batch.padded else None
    if mask is not None:
        mask[-1, -1] = 0
    places = torch.arange(batch.supervised, device=device)
    rows, columns = places // (batch.length - 1), places % (batch.length - 1)

    def loss() -> Tensor:
        decoder = plain_head_decoder(model)
        if decoder is None:
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            logits = logits[:, :-1][rows, columns]
        else:
            body, head = decoder
            hidden = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            logits = head(hidden[:, :-1][rows, columns])
        return torch.nn.functional.cross_entropy(
            logits.float(), torch.zeros_like(places), reduction="sum"
        )

    return loss


def _smaller_batches(recipe: Recipe) -> list[dict[str, Any]]:
    """Smaller micro batches, with as many rows in an optimizer step as before."""
    train = recipe.train
    rows = train.per_device_train_batch_size * train.gradient_accumulation_steps
    return [
        {
            "train.per_device_train_batch_size": size,
            "train.gradient_accumulation_steps": rows // size,
            "train.per_device_eval_batch_size": min(size, train.per_device_eval_batch_size),
        }
        for size in range(train.per_device_train_batch_size - 1, 0, -1)
        if rows % size == 0
    ]


PADDED = Loop(_padded_training, _padded_validation, padded_loss, _smaller_batches)
"""Rows of like length in a batch, padded to the longest: transformers.Trainer's group_by_length."""
