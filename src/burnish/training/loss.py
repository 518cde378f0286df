"""Cross entropy whose gradient is made in the forward pass, a few positions at a time.

For hidden states h [n, hidden] that predict the tokens t [n], with logits z = h Eᵀ + bias and
l = logsumexp(z) of each position:

    loss = Σ l - (1 - ε) z_t - ε mean(z) + ζ l²
    dz   = (1 + 2 ζ l) softmax(z) - (1 - ε) onehot(t) - ε / vocab,    dh = dz E

with ε for label smoothing and ζ for the z-loss, both usually 0. Logits exist for `CHUNK` positions
at a time, never for all: with a vocabulary of 150,000 they would be most of the memory of a small
model. Where the head learns, too, its gradient is made along with it: dE = dzᵀ h.

Source: Szegedy et al. 2016, "Rethinking the Inception Architecture" (label smoothing); Chowdhery et
al. 2022, "PaLM" (z-loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Positions whose logits exist at a time: enough that to read the head costs less than they do."""

COLUMNS = 1024
"""Tokens of the vocabulary whose float32 logits one product makes on a CPU. Rows of logits that are
a multiple of 4,096 bytes long fall on the same lines of its cache, one below the other: a product
that writes all of them at once is slower by an eighth."""

WIDE_CHUNK = 64
"""Of those, positions whose logits exist in float32, too, where the model computes in less: on a
CPU as many as its cache holds."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What is added to plain cross entropy: label smoothing ε and the z-loss's weight ζ."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0


PLAIN = LossTerms()


def cross_entropy_sum(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    terms: LossTerms = PLAIN,
) -> Tensor:
    """The sum of the losses of all positions, a scalar in float32 (float64 for float64 input).

    Args:
        hidden: [n, hidden].
        head: [vocab, hidden].
        targets: [n] token ids.
        bias: [vocab], of heads that have one.
        terms: what is added to plain cross entropy.

    Under autocast the products are computed in its type, and the loss in float32 as always.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden, head = hidden.to(dtype), head.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    apply: Any = _CrossEntropySum.apply
    result: Tensor = apply(hidden, head, targets, bias, terms)
    return result


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        terms: LossTerms,
    ) -> Tensor:
        total = torch.zeros((), dtype=_sum_type(hidden), device=hidden.device)
        wants_hidden, wants_head, _, wants_bias, _ = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_head = torch.zeros_like(head) if wants_head else None
        d_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
        # One array for all chunks: new ones of this size would cost more than the sums.
        logits = hidden.new_empty(min(len(hidden), CHUNK), len(head))
        for start in range(0, len(hidden), CHUNK):
            part = hidden[start : start + CHUNK]
            z = logits[: len(part)]
            _product(part, head, out=z)
            if bias is not None:
                z += bias
            total += _loss_and_gradient(z, targets[start : start + CHUNK, None], terms)
            if d_hidden is not None:
                torch.mm(z, head, out=d_hidden[start : start + CHUNK])
            if d_head is not None:
                d_head.addmm_(z.T, part)
            if d_bias is not None:
                d_bias += z.sum(0)
        ctx.gradients = d_hidden, d_head, None, d_bias, None
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        (scale,) = grad_outputs
        return tuple(g if g is None else g.mul_(scale.to(g.dtype)) for g in gradients)


def _product(hidden: Tensor, head: Tensor, *, out: Tensor) -> None:
    """The products h Eᵀ [n, vocab], a few columns at a time where that is faster: see `COLUMNS`."""
    in_parts = hidden.device.type == "cpu" and hidden.dtype.itemsize > 2
    size = COLUMNS if in_parts else len(head)
    for part, place in zip(torch.split(head, size), torch.split(out, size, 1), strict=True):
        torch.mm(hidden, part.T, out=place)


def _loss_and_gradient(z: Tensor, chosen: Tensor, terms: LossTerms) -> Tensor:
    """As `_wide_loss_and_gradient`, for logits in any type; the sums are made in a wide one."""
    dtype = _sum_type(z)
    if z.dtype == dtype:
        return _wide_loss_and_gradient(z, chosen, terms)
    total = torch.zeros((), dtype=dtype, device=z.device)
    size = min(len(z), WIDE_CHUNK) if z.device.type == "cpu" else len(z)
    high = z.new_empty(size, z.shape[-1], dtype=dtype)
    for low, some in zip(torch.split(z, size), torch.split(chosen, size), strict=True):
        p = high[: len(low)].copy_(low)
        total += _wide_loss_and_gradient(p, some, terms)
        low.copy_(p)
    return total


def _wide_loss_and_gradient(z: Tensor, chosen: Tensor, terms: LossTerms) -> Tensor:
    """The loss of logits z [n, vocab] for the tokens `chosen` [n, 1]; z becomes the gradient."""
    smoothing, vocab = terms.label_smoothing, z.shape[-1]
    loss = -(1 - smoothing) * z.gather(1, chosen).sum()
    if smoothing:
        loss -= smoothing * z.mean(-1).sum()
    peak = z.amax(-1)
    p = torch.softmax(z, -1, out=z)
    log_sum = peak - p.amax(-1).log()  # logsumexp(z), for p = exp(z - logsumexp(z)) at the peak
    loss += log_sum.sum()
    if terms.z_loss:
        loss += terms.z_loss * log_sum.square().sum()
        p *= (1 + 2 * terms.z_loss * log_sum)[:, None]
    if smoothing:
        p -= smoothing / vocab
    p.scatter_add_(1, chosen, p.new_full(chosen.shape, smoothing - 1))
    return loss


def _sum_type(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)
