"""Packed rows through any causal model of transformers, by its own forward.

The row goes in as a batch of one with position ids that start anew with every record. transformers
takes that for records that must not see one another, but only without a cache: `use_cache=False` is
not a matter of speed here. Whether it holds for the attention in use is tested, not believed
(backends.py).

sdpa and eager make one mask of the row out of the position ids, flex_attention a mask of blocks.
flash-attn and torch's varlen take no mask but the places where records begin; each layer would look
for them in the position ids, and wait for the GPU to find them, so they are given with the row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.models.attention import attention_of
from burnish.models.lora import base_of
from burnish.scoring import plain_head_decoder
from burnish.training.loss import PLAIN, LossTerms, cross_entropy_sum
from burnish.training.packing import Row
from burnish.training.varlen import VARLEN


def run_model(module: Any, **inputs: Any) -> Any:
    """The output of a model, or of its body, for a row."""
    return module(**inputs, use_cache=False)


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A causal model, with or without an adapter.

    Attributes:
        model: the model.
        run: `run_model`, or what it was compiled to.
        is_sharded: its weights are together only inside its own forward, so nothing goes past that.
    """

    model: Any
    run: Callable[..., Any] = run_model
    is_sharded: bool = False

    def loss_sum(self, row: Row, terms: LossTerms = PLAIN) -> Tensor:
        """The sum of the losses of a row's supervised tokens, a scalar with gradient.

        Where the head is a plain linear layer, logits exist for a few positions at a time;
        elsewhere (soft-capped or scaled logits) for all supervised positions of the row.
        """
        inputs: dict[str, Any] = {"input_ids": row.input_ids[None]}
        if len(row.segments) > 1:  # alone, positions are as they always are
            inputs["position_ids"] = row.position_ids[None]
        inputs |= _boundaries(self.model, row)
        decoder = None if self.is_sharded else plain_head_decoder(self.model)
        if decoder is not None:
            body, head = decoder
            hidden = self.run(body, **inputs).last_hidden_state[0, row.predictors]
            return cross_entropy_sum(hidden, head.weight, row.targets, bias=head.bias, terms=terms)
        if _keeps_chosen_logits(self.model):
            inputs["logits_to_keep"] = row.predictors
            logits = self.run(self.model, **inputs).logits[0]
        else:
            logits = self.run(self.model, **inputs).logits[0, row.predictors]
        return _sum_of(logits, row.targets, terms)


def _keeps_chosen_logits(model: Any) -> bool:
    return "logits_to_keep" in inspect.signature(base_of(model).forward).parameters


def _boundaries(model: Any, row: Row) -> dict[str, Any]:
    """Where the records of a row begin and end, under the names that flash-attn is told it by."""
    attention = attention_of(model)
    if attention != VARLEN and not attention.startswith("flash_attention"):
        return {}
    taken = inspect.signature(base_of(model).forward).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in taken):
        return {}
    ends = torch.tensor([0, *(s.stop for s in row.segments)], dtype=torch.int32)
    if row.input_ids.is_cuda:
        ends = ends.pin_memory().to(row.input_ids.device, non_blocking=True)
    longest = max(len(segment) for segment in row.segments)
    # A mask of four dimensions is taken for one that is ready: none is made, and none is read.
    ready = {"attention_mask": row.input_ids.new_ones(1, 1, 1, 1)} if attention == VARLEN else {}
    return ready | {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _sum_of(logits: Tensor, targets: Tensor, terms: LossTerms) -> Tensor:
    from torch.nn.functional import cross_entropy

    high = logits.float() if logits.dtype.itemsize < 4 else logits
    loss = cross_entropy(high, targets, reduction="sum", label_smoothing=terms.label_smoothing)
    if terms.z_loss:
        loss = loss + terms.z_loss * high.logsumexp(-1).square().sum()
    return loss
