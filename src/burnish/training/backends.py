"""Which code computes the loss of a row: the fast path, or the model's own forward.

Nothing is believed. Before training, a few records go through both: where the fast path's loss or
gradients differ from the model's own, the model's own is taken, and said. And the attention in use
is asked whether a record sees its neighbour: if the loss of one changes when the other's tokens do,
rows would be silently wrong, and training does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from burnish.conversation import IGNORE_INDEX
from burnish.errors import TrainingError
from burnish.models.attention import attention_of
from burnish.training.comparison import (
    LossSum,
    device_of,
    difference,
    measure,
    nudged,
    probe_of,
    tolerance_of,
)
from burnish.training.llama.model import LlamaLike, Unfit, read_model
from burnish.training.loss import LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import Record, pack

NEIGHBOUR_TOLERANCE = 1e-5
"""By what share of itself the loss of a record may change when its neighbour does."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What computes the loss of rows.

    Attributes:
        name: `fast` for the hand-written layers, `transformers` for the model's own forward.
        loss_sum: the sum of the losses of a row's supervised tokens, with gradient.
        shares_prefixes: whether a row's records may share their beginning.
        takes_lanes: whether several rows may go through it at once, in threads.
        static_rows: whether all rows shall be padded to one length.
        around: what holds while the rows of a step go forward and backward.
        why: what speaks against the fast path, where it is not taken.
    """

    name: Literal["fast", "transformers"]
    loss_sum: LossSum
    shares_prefixes: bool
    takes_lanes: bool = False
    static_rows: bool = False
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    why: str = ""


def choose_backend(
    model: Any,
    records: Sequence[Record],
    *,
    wanted: Literal["auto", "fast", "transformers"],
    terms: LossTerms,
    packs: bool = True,
) -> Backend:
    """The fast path where it is wanted and proves itself, else the model's own forward.

    Args:
        model: a PEFT model on its device.
        records: training records of (input_ids, labels) to try it on.
        wanted: `auto` takes the fast path on a CPU.
        terms: what is added to plain cross entropy.
        packs: whether rows hold several records; if not, none can see another.

    Raises:
        TrainingError: records see one another, the fast path is asked for and can't be taken, or
            the model's attention has no backward pass here.
    """
    _check_backward(model)
    model.eval()
    probe = probe_of(records)
    own = partial(PackedModel(model).loss_sum, terms=terms)
    why = _against_fast_path(model, wanted)
    if not why:
        try:
            fast = read_model(model)
        except Unfit as error:
            why = str(error)
        else:
            why = _difference(model, fast, probe)
    if not why:
        loss_sum = partial(fast.loss_sum, terms=terms)
        if packs:
            check_isolation_of(model, loss_sum, probe)
        return Backend("fast", loss_sum, shares_prefixes=True, takes_lanes=True)
    if wanted == "fast":
        raise TrainingError("train.backend", f"the fast path can't be taken: {why}.", "Set auto.")
    if packs:
        check_isolation_of(model, own, probe)
    return Backend("transformers", own, shares_prefixes=False, why=why)


def check_isolation(
    loss_sum: LossSum,
    records: Sequence[Record],
    device: torch.device,
    *,
    tolerance: float,
) -> None:
    """Checks that the loss of a record does not depend on what stands before it in the row.

    It must be the same whatever its neighbour says, up to `NEIGHBOUR_TOLERANCE` of itself, and
    the same alone, up to `tolerance`: positions that do not start anew would change it too.

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
    leaks = abs(beside - beside_other) > NEIGHBOUR_TOLERANCE * abs(beside)
    if leaks or abs(beside - alone) > tolerance * abs(alone):
        raise TrainingError(
            "packing",
            f"the records of a row see one another: the loss of one is {beside:.6g} beside one "
            f"neighbour, {beside_other:.6g} beside another and {alone:.6g} alone.",
            "Set train.packing: false, or another model.attn_implementation.",
        )


def check_isolation_of(model: Any, loss_sum: LossSum, probe: Sequence[Record]) -> None:
    """Checks the isolation of records as exactly as the model computes.

    Raises:
        TrainingError: a record sees its neighbour.
    """
    with _without_outliers(model):
        check_isolation(loss_sum, probe, device_of(model), tolerance=tolerance_of(model))


@contextmanager
def _without_outliers(model: Any) -> Iterator[None]:
    """Lets an 8-bit base round each token by itself for a while.

    bitsandbytes picks the columns that stay in 16 bits by all tokens of a row, so a neighbour
    changes how a record is rounded: on a real model by 5 % of a loss of a few tokens. That is
    rounding, but it would hide a record that is seen.
    """
    states = [m.state for m in model.modules() if hasattr(getattr(m, "state", 0), "threshold")]
    kept = [state.threshold for state in states]
    for state in states:
        state.threshold = 0.0
    try:
        yield
    finally:
        for state, threshold in zip(states, kept, strict=True):
            state.threshold = threshold


def _check_backward(model: Any) -> None:
    if attention_of(model) == "flex_attention" and device_of(model).type == "cpu":
        raise TrainingError(
            "model.attn_implementation",
            "flex_attention has no backward pass on a CPU.",
            "Set auto or sdpa.",
        )


def _against_fast_path(model: Any, wanted: str) -> str:
    if wanted == "transformers":
        return "the recipe says so"
    if wanted == "auto" and device_of(model).type != "cpu":
        return "on a GPU the model's own kernels are faster"
    return ""


def _difference(model: Any, fast: LlamaLike, probe: Sequence[Record]) -> str:
    """In words, how the fast path differs from the model's own forward; empty if it doesn't."""
    with nudged(model):
        alone = [row for record in probe for row in pack([record], 2**31, share_prefixes=False)]
        own = measure(model, PackedModel(model).loss_sum, alone)
        other = measure(model, fast.loss_sum, pack(probe, 2**31, share_prefixes=True))
    return difference(own, other, tolerance_of(model))
