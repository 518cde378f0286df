"""Packed rows through any causal model of transformers, by its own forward.

The row goes in as a batch of one with position ids that start anew with every record. transformers
takes that for records that must not see one another, but only without a cache: `use_cache=False` is
not a matter of speed here. Whether it holds for the attention in use is tested, not believed
(backends.py).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from burnish.scoring import plain_head_decoder
from burnish.training.loss import PLAIN, LossTerms, cross_entropy_sum
from burnish.training.packing import Row


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A causal model, with or without an adapter."""

    model: Any

    def loss_sum(self, row: Row, terms: LossTerms = PLAIN) -> Tensor:
        """The sum of the losses of a row's supervised tokens, a scalar with gradient.

        Where the head is a plain linear layer, logits exist for a few positions at a time;
        elsewhere (soft-capped or scaled logits) for all supervised positions of the row.
        """
        inputs = {"input_ids": row.input_ids[None]}
        if len(row.segments) > 1:  # alone, positions are as they always are
            inputs["position_ids"] = row.position_ids[None]
        decoder = plain_head_decoder(self.model)
        if decoder is not None and not decoder[1].weight.requires_grad:
            body, head = decoder
            hidden = body(**inputs, use_cache=False).last_hidden_state[0, row.predictors]
            return cross_entropy_sum(hidden, head.weight, row.targets, bias=head.bias, terms=terms)
        if _keeps_chosen_logits(self.model):
            inputs["logits_to_keep"] = row.predictors
            logits = self.model(**inputs, use_cache=False).logits[0]
        else:
            logits = self.model(**inputs, use_cache=False).logits[0, row.predictors]
        return _sum_of(logits, row.targets, terms)


def _keeps_chosen_logits(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def _sum_of(logits: Tensor, targets: Tensor, terms: LossTerms) -> Tensor:
    from torch.nn.functional import cross_entropy

    high = logits.float() if logits.dtype.itemsize < 4 else logits
    loss = cross_entropy(high, targets, reduction="sum", label_smoothing=terms.label_smoothing)
    if terms.z_loss:
        loss = loss + terms.z_loss * high.logsumexp(-1).square().sum()
    return loss
