"""train.speed: int8, the fast path with frozen weights in 8 bits: what it costs in exactness.

It is approximate, unlike all else here; so how far it is off is measured on a few records before
training, said, and bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from burnish.errors import TrainingError
from burnish.progress import say
from burnish.training.backends import Backend
from burnish.training.comparison import deviation, device_of, measure, nudged, probe_of
from burnish.training.llama.model import read_model
from burnish.training.loss import LossTerms
from burnish.training.packing import Record, pack

MOST_OFF = 0.5
"""How far gradients may be off, relative to their length, and losses a tenth of that."""


def in_8_bits(backend: Backend, model: Any, records: Sequence[Record], terms: LossTerms) -> Backend:
    """The fast path that multiplies by frozen weights in 8 bits.

    Args:
        backend: what was chosen; only the fast path can be rounded.
        model: a PEFT model on its device.
        records: training records to measure it on.
        terms: what is added to plain cross entropy.

    Raises:
        TrainingError: the fast path was not taken, the device is no CPU, or the results are off by
            more than rounding.
    """
    if backend.name != "fast":
        raise _refused(f"it needs the fast path: {backend.why}")
    if device_of(model).type != "cpu":
        raise _refused("it is for CPUs")
    exact = read_model(model)
    rounded = exact.in_8_bits()
    rows = pack(probe_of(records), 2**31, share_prefixes=True)
    with nudged(model):
        own, other = (measure(model, way.loss_sum, rows) for way in (exact, rounded))
    loss_off, gradient_off = deviation(own, other)
    off = f"{loss_off:.2%} in the loss and {gradient_off:.0%} of its length in the gradient"
    if not (loss_off <= MOST_OFF / 10 and gradient_off <= MOST_OFF):
        raise _refused(f"a few records are off by {off}, which is more than rounding")
    say(f"approximate: frozen weights in 8 bits put a few records off by {off}")
    return replace(backend, loss_sum=partial(rounded.loss_sum, terms=terms))


def _refused(why: str) -> TrainingError:
    return TrainingError("train.speed", f"int8 can't be taken: {why}.", "Set train.speed: exact.")
