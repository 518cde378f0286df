"""Examples -> loss, perplexity and token log-probabilities; evaluation and checks score here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from burnish.conversation import IGNORE_INDEX
from burnish.models.memory import in_batches
from burnish.progress import track

if TYPE_CHECKING:
    from torch import Tensor

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Score:
    """The loss of a set of examples.

    Attributes:
        loss: mean negative log-likelihood in nats over all supervised tokens of all examples.
        num_tokens: how many tokens that mean is over.
        by_example: the sum of negative log-likelihoods of each example, in order.
    """

    loss: float
    num_tokens: int
    by_example: tuple[float, ...]

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is too large for a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


def collate(rows: Sequence[tuple[Ids, Ids]]) -> dict[str, Tensor]:
    """Rows of (input_ids, labels) as one batch, padded on the right to the longest.

    Padding is masked by its place, never by its token: a pad token that equals the stop token
    would otherwise take the stop token out of the loss.

    Returns:
        input_ids, attention_mask and labels, each [batch, seq].
    """
    import torch

    longest = max(len(ids) for ids, _ in rows)
    shape = (len(rows), longest)
    input_ids = torch.zeros(shape, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE_INDEX, dtype=torch.long)
    for row, (ids, row_labels) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
        labels[row, : len(ids)] = torch.tensor(row_labels)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def supervised_logits(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits at the positions that predict a supervised token, and those tokens.

    Where the model's head is a plain linear layer, only these positions go through it: with a
    vocabulary of 150,000 the full [batch, seq, vocab] is most of the memory of a small model.

    Returns:
        logits [supervised, vocab] and targets [supervised].
    """
    targets = batch["labels"][:, 1:]  # [batch, seq - 1]
    keep = targets != IGNORE_INDEX
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    decoder = plain_head_decoder(model)
    if decoder is None:
        logits = model(**inputs, use_cache=False).logits[:, :-1][keep]
    else:
        body, head = decoder
        hidden = body(**inputs, use_cache=False).last_hidden_state[:, :-1][keep]
        logits = head(hidden)
    return logits, targets[keep]


def plain_head_decoder(model: Any) -> tuple[Any, Any] | None:
    """The body and the linear head of a causal model, or None where the head does more than that.

    Soft-capped or scaled logits (Gemma 2, Granite, Cohere) and auxiliary losses of mixtures of
    experts are left to the model's own forward.
    """
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config.get_text_config()
    changes = (
        "final_logit_softcapping",
        "logits_scaling",
        "logit_scale",
        "lm_head_multiplier",
        "output_multiplier",
        "router_aux_loss_coef",
    )
    if any(getattr(config, name, None) not in (None, 0, 1.0) for name in changes):
        return None
    body = getattr(inner, inner.base_model_prefix, None)
    head = inner.get_output_embeddings()
    if body is None or body is inner or not isinstance(head, torch.nn.Linear):
        return None
    return body, head


def score(
    model: Any,
    examples: Sequence[tuple[Ids, Ids]],
    *,
    batch_size: int,
    what: str = "score",
) -> Score:
    """The loss of a model in evaluation mode on examples of (input_ids, labels).

    The mean is over tokens, so it does not depend on the batch size, which is halved where memory
    runs out. The longest examples come first: what fits them fits the others.

    Raises:
        OutOfMemoryError: a single example does not fit.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i][0]))
    scored = in_batches(
        [examples[i] for i in order],
        partial(_nll, model),
        size=batch_size,
        what=what,
        name=lambda example: f"an example of {len(example[0]):,} tokens",
        remedy="Lower prepare.max_length, or use a machine with more free memory.",
    )
    losses: dict[int, float] = {}
    num_tokens = 0
    shown = track(scored, what, total=len(examples), unit="examples")
    for index, (total, count) in zip(order, shown, strict=True):
        losses[index] = total
        num_tokens += count
    by_example = tuple(losses[i] for i in range(len(examples)))
    return Score(math.fsum(by_example) / max(num_tokens, 1), num_tokens, by_example)


def _nll(model: Any, rows: Sequence[tuple[Ids, Ids]]) -> list[tuple[float, int]]:
    """The summed loss of each row, and over how many tokens."""
    import torch

    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in collate(rows).items()}
    with torch.no_grad():
        logits, targets = supervised_logits(model, batch)
        losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    counts = (batch["labels"][:, 1:] != IGNORE_INDEX).sum(1).tolist()
    sums = [float(part.double().sum()) for part in torch.split(losses, counts)]
    return list(zip(sums, counts, strict=True))
