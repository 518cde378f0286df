"""The smallest changes of a recipe that make it fit, each checked by the plan's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from burnish.errors import DataError
from burnish.planning.loops import PADDED
from burnish.planning.outlook import Outlook, percentile_length, with_settings
from burnish.planning.rows import Rows
from burnish.planning.shape import empty_model, num_parameters, shallow
from burnish.recipe import Recipe

Changes = dict[str, Any]
Check = Callable[[Recipe], Outlook]
Smaller = Callable[[Recipe], Iterable[Changes]]

SHARES = (0.99, 0.95, 0.9, 0.75, 0.5)
"""Shares of the rows that a lower max_length would leave whole."""


def fixes(
    recipe: Recipe, rows: Rows, room_gib: float, check: Check, smaller: Smaller = PADDED.smaller
) -> list[str]:
    """Lines to paste, each of which makes the recipe fit; several changes at once come last.

    Args:
        recipe: the recipe that does not fit.
        rows: its rows.
        room_gib: the memory that there is.
        check: the outlook of a changed recipe.
        smaller: the loop's settings for smaller micro batches, from `Loop.smaller`.
    """
    found = []
    for kind in (smaller, _checkpointing, _widths, _lengths(rows)):
        line = _first_that_fits(recipe, kind(recipe), room_gib, check)
        if line:
            found.append(line)
    if found:
        return found
    line = _first_that_fits(recipe, _together(recipe, rows, smaller), room_gib, check)
    return [line] if line else []


def _first_that_fits(
    recipe: Recipe, candidates: Iterable[Changes], room_gib: float, check: Check
) -> str | None:
    """The first of a row of ever greater changes that fits, as a line."""
    for changes in candidates:
        try:
            seen = check(with_settings(recipe, changes))
        except DataError:  # no row would be left
            return None
        if seen.memory.peak <= room_gib:
            return _line(changes, seen)
    return None


def _line(changes: Changes, seen: Outlook) -> str:
    settings = " ".join(f"--set {name}={_yaml(value)}" for name, value in changes.items())
    text = f"{settings}  # {seen.memory.peak:.1f} GiB"
    if "prepare.max_length" in changes:
        text += f", {seen.num_cut:,} answers are cut"
    if "train.gradient_checkpointing" in changes:
        text += ", about a third more time"
    return text


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checkpointing(recipe: Recipe) -> Iterator[Changes]:
    if not recipe.train.gradient_checkpointing:
        yield {"train.gradient_checkpointing": True}


def _widths(recipe: Recipe) -> Iterator[Changes]:
    if recipe.model.load_in_4bit:
        return
    if not recipe.model.load_in_8bit:
        yield {"model.load_in_8bit": True}
        yield {"model.load_in_4bit": True}
    else:
        yield {"model.load_in_8bit": False, "model.load_in_4bit": True}


def _lengths(rows: Rows) -> Callable[[Recipe], Iterator[Changes]]:
    def candidates(recipe: Recipe) -> Iterator[Changes]:
        lengths = {percentile_length(rows, share) for share in SHARES}
        for length in sorted(lengths, reverse=True):
            if length < recipe.prepare.max_length:
                yield {"prepare.max_length": length}

    return candidates


def _together(recipe: Recipe, rows: Rows, smaller: Smaller) -> Iterator[Changes]:
    """All that costs no answer at once; then also shorter rows."""
    changes: Changes = {}
    for kind in (smaller, _checkpointing, _widths):
        steps = list(kind(recipe))
        if steps:
            changes |= steps[-1]
            yield dict(changes)
    for shorter in _lengths(rows)(recipe):
        yield changes | shorter


def smaller_model(config: Any, room_gib: float, check: Callable[[Any], Outlook]) -> str | None:
    """How large a model of this shape would fit, by halving its layers; None where none does."""
    depth = config.get_text_config().num_hidden_layers
    whole = num_parameters(empty_model(config, torch.float32))
    while depth > 1:
        depth //= 2
        shape = shallow(config, depth)
        seen = check(shape)
        if seen.memory.peak <= room_gib:
            weights = num_parameters(empty_model(shape, torch.float32))
            return (
                f"--set model.name_or_path=NAME  # a model of {weights / 1e9:.2f} billion weights "
                f"would take {seen.memory.peak:.1f} GiB; this one has {whole / 1e9:.2f}"
            )
    return None
