"""Which code computes the loss of a row: the fast path, or the model's own forward.

Nothing is believed. Before training, a few records go through both: where the fast path's loss or
gradients differ from the model's own, the model's own is taken, and said. And the attention in use
is asked whether a record sees its neighbour: if the loss of one changes when the other's tokens do,
rows would be silently wrong, and training does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from burnish.conversation import IGNORE_INDEX
from burnish.errors import TrainingError
from burnish.training.llama.model import LlamaLike, Unfit, read_model
from burnish.training.loss import LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import Ids, Row, pack

LossSum = Callable[[Row], Tensor]

PROBE_RECORDS, PROBE_TOKENS = 3, 96
"""How many records go through both, and how many tokens of each."""

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
"""How much gradients may differ, relative to their norm, and losses a tenth of that.

A wrong formula differs by about 1. In bfloat16 rounding alone gave 0.11 on a real model.
"""

_ROUNDING_8BIT = 0.03
"""How much a neighbour may change a loss by the rounding of an 8-bit base alone."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What computes the loss of rows.

    Attributes:
        name: `fast` for the hand-written layers, `transformers` for the model's own forward.
        loss_sum: the sum of the losses of a row's supervised tokens, with gradient.
        shares_prefixes: whether a row's records may share their beginning.
        why: what speaks against the fast path, where it is not taken.
    """

    name: Literal["fast", "transformers"]
    loss_sum: LossSum
    shares_prefixes: bool
    why: str = ""


def choose_backend(
    model: Any,
    records: Sequence[tuple[Ids, Ids]],
    *,
    wanted: Literal["auto", "fast", "transformers"],
    terms: LossTerms,
    num_recomputed: int,
    packs: bool = True,
) -> Backend:
    """The fast path where it is wanted and proves itself, else the model's own forward.

    Args:
        model: a PEFT model on its device.
        records: training records of (input_ids, labels) to try it on.
        wanted: `auto` takes the fast path on a CPU.
        terms: what is added to plain cross entropy.
        num_recomputed: layers whose activations are recomputed, on the fast path.
        packs: whether rows hold several records; if not, none can see another.

    Raises:
        TrainingError: records see one another, or the fast path is asked for and can't be taken.
    """
    model.eval()
    probe = _probe(records)
    own = partial(PackedModel(model).loss_sum, terms=terms)
    why = _against_fast_path(model, wanted)
    if not why:
        try:
            fast = read_model(model)
        except Unfit as error:
            why = str(error)
        else:
            why = _difference(model, fast, PackedModel(model), probe)
    if not why:
        loss_sum = partial(fast.loss_sum, terms=terms, num_recomputed=num_recomputed)
        if packs:
            _check_isolation(model, loss_sum, probe)
        return Backend("fast", loss_sum, shares_prefixes=True)
    if wanted == "fast":
        raise TrainingError("train.backend", f"the fast path can't be taken: {why}.", "Set auto.")
    if packs:
        _check_isolation(model, own, probe)
    return Backend("transformers", own, shares_prefixes=False, why=why)


def check_isolation(
    loss_sum: LossSum,
    records: Sequence[tuple[Ids, Ids]],
    device: torch.device,
    *,
    tolerance: float,
    between_neighbours: float = 1e-5,
) -> None:
    """Checks that the loss of a record does not depend on what stands before it in the row.

    It must be the same whatever its neighbour says, up to `between_neighbours` of itself, and the
    same alone, up to `tolerance`: positions that do not start anew would change it too.

    Raises:
        TrainingError: it does depend on that.
    """
    # The longer one stands in front, as `pack` has it: nothing sees what comes behind.
    first, *_, second = sorted(records, key=lambda record: -len(record[0]))
    other = [*first[0][:1], *(second[0][i % len(second[0])] for i in range(1, len(first[0])))]
    if other == list(first[0]):
        other[-1] = other[-1] - 1 if other[-1] else 1
    losses = []
    for neighbours in ([first[0]], [other], []):
        silent = [(ids, [IGNORE_INDEX] * len(ids)) for ids in neighbours]
        (row,) = pack([*silent, second], 2**31, share_prefixes=False)
        with torch.no_grad():
            losses.append(float(loss_sum(row.to(device))))
    beside, beside_other, alone = losses
    leaks = abs(beside - beside_other) > between_neighbours * abs(beside)
    if leaks or abs(beside - alone) > tolerance * abs(alone):
        raise TrainingError(
            "packing",
            f"the records of a row see one another: the loss of one is {beside:.6g} beside one "
            f"neighbour, {beside_other:.6g} beside another and {alone:.6g} alone.",
            "Set train.packing: false, or another model.attn_implementation.",
        )


def _check_isolation(model: Any, loss_sum: LossSum, probe: Sequence[tuple[Ids, Ids]]) -> None:
    if getattr(model.get_base_model(), "is_loaded_in_8bit", False):
        # bitsandbytes picks the columns that stay in 16 bits by all tokens of a row.
        within = {"tolerance": _ROUNDING_8BIT, "between_neighbours": _ROUNDING_8BIT}
    else:
        within = {"tolerance": _tolerance(model)}
    check_isolation(loss_sum, probe, _device(model), **within)


def _probe(records: Sequence[tuple[Ids, Ids]]) -> list[tuple[Ids, Ids]]:
    """The beginnings of a few records, each with something to learn."""
    cut = []
    for ids, labels in records:
        first = next((i for i, label in enumerate(labels) if label >= 0 and i), None)
        if first is not None:
            start = max(0, first - PROBE_TOKENS // 2)
            cut.append((ids[start:][:PROBE_TOKENS], labels[start:][:PROBE_TOKENS]))
        if len(cut) == PROBE_RECORDS:
            break
    return cut if len(cut) > 1 else cut * 2


def _against_fast_path(model: Any, wanted: str) -> str:
    if wanted == "transformers":
        return "the recipe says so"
    if wanted == "auto" and _device(model).type != "cpu":
        return "on a GPU the model's own kernels are faster"
    return ""


def _difference(
    model: Any, fast: LlamaLike, own: PackedModel, probe: Sequence[tuple[Ids, Ids]]
) -> str:
    """In words, how the fast path differs from the model's own forward; empty if it doesn't.

    B of a fresh adapter is zero, and with it A's gradient; so B gets random values for this.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    kept = [p.detach().clone() for p in learning]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in learning:
            p.add_(0.02 * torch.randn(p.shape, generator=generator).to(p))
    try:
        results = []
        for loss_sum, share in ((own.loss_sum, False), (fast.loss_sum, True)):
            rows = pack(probe, 2**31, share_prefixes=share)
            losses = [loss_sum(row.to(_device(model))) for row in rows]
            total = torch.stack(losses).sum()
            gradients = torch.autograd.grad(total, learning)
            results.append((float(total.detach()), torch.cat([g.flatten() for g in gradients])))
    finally:
        with torch.no_grad():
            for p, value in zip(learning, kept, strict=True):
                p.copy_(value)
    (loss, gradient), (fast_loss, fast_gradient) = results
    tolerance = _tolerance(model)
    by = float((gradient - fast_gradient).norm() / gradient.norm().clamp_min(1e-30))
    if abs(loss - fast_loss) <= tolerance / 10 * abs(loss) and by <= tolerance:
        return ""
    return (
        f"its loss is {fast_loss:.6g} where the model's own is {loss:.6g}, and its gradients "
        f"differ by {by:.1e}"
    )


def _tolerance(model: Any) -> float:
    return _TOLERANCE[next(iter(model.get_base_model().parameters())).dtype]


def _device(model: Any) -> torch.device:
    device: torch.device = next(iter(model.parameters())).device
    return device
