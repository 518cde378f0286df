"""The records of each step, made a step ahead of their use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader


class StepLoader(DataLoader[Any]):
    """Gives a step only when the one behind it is made.

    So what making it sets off, as packing its rows, goes on while the step that was given computes.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        steps = iter(super().__iter__())
        at_hand = next(steps, None)
        while at_hand is not None:
            behind = next(steps, None)
            yield at_hand
            at_hand = behind
