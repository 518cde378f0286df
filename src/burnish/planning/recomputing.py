"""How many layers recompute their activations: as the recipe says, or as few as memory allows.

Recomputing saves memory and costs time, both in proportion to the number of layers: each of them
goes forward twice. So `auto` takes the fewest that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal


def num_recomputed(
    wanted: Literal["auto"] | bool | int,
    num_layers: int,
    needed: Callable[[int], float],
    room: float | None,
) -> int:
    """How many layers recompute, from the first.

    Args:
        wanted: train.gradient_checkpointing.
        num_layers: the model's layers.
        needed: so many layers that recompute -> what a step takes.
        room: what it may take, in the same unit; None where nobody knows, so nothing is saved.

    Where no number of layers fits, it is the one that takes least.
    """
    if wanted == "auto":
        if room is None:
            return 0
        numbers = range(num_layers + 1)
        fitting = next((n for n in numbers if needed(n) <= room), None)
        return min(numbers, key=needed) if fitting is None else fitting
    if isinstance(wanted, bool):
        return num_layers if wanted else 0
    return min(wanted, num_layers)
