"""The smallest changes of a recipe that make it fit, each checked by the plan's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from pydantic import ValidationError

from burnish.errors import DataError, RecipeError
from burnish.planning.loops import Device
from burnish.planning.outlook import Outlook, percentile_length, with_settings
from burnish.planning.rows import Rows
from burnish.planning.shape import empty_model, num_parameters, shallow
from burnish.recipe import Recipe

Changes = dict[str, Any]
Check = Callable[[Recipe], Outlook]

SHARES = (0.99, 0.95, 0.9, 0.75, 0.5)
"""Shares of the rows that a lower max_length would leave whole."""


def fixes(
    recipe: Recipe,
    rows: Rows,
    check: Check,
    smaller: Iterable[Changes],
    *,
    is_quantized: bool = False,
    device: Device = "cpu",
) -> list[str]:
    """Lines to paste, each of which makes the recipe fit; several changes at once come last.

    Args:
        recipe: the recipe that does not fit.
        rows: its rows.
        check: the outlook of a changed recipe.
        smaller: the loop's settings for fewer tokens at a time, from `Loop.smaller`.
        is_quantized: whether the base's files are, so that no other width can be asked for.
        device: where it does not fit.
    """
    candidates = [
        list(smaller),
        _checkpointing(recipe),
        _offloading(recipe, device),
        [] if is_quantized else _widths(recipe),
        _lengths(recipe, rows),
    ]
    kinds = [[each for each in kind if _makes_sense(recipe, each)] for kind in candidates]
    tried = (_first_that_fits(recipe, rows, kind, check) for kind in kinds)
    found = [line for line in tried if line]
    if found:
        return found
    line = _first_that_fits(recipe, rows, _together(kinds), check)
    return [line] if line else []


def _makes_sense(recipe: Recipe, changes: Changes) -> bool:
    """Whether the recipe may have these changes: method full has no 8 bits, for example."""
    try:
        with_settings(recipe, changes)
    except ValidationError:
        return False
    return True


def _first_that_fits(
    recipe: Recipe, rows: Rows, candidates: Iterable[Changes], check: Check
) -> str | None:
    """The first of a row of ever greater changes that fits, as a line."""
    for changes in candidates:
        try:
            seen = check(with_settings(recipe, changes))
        except DataError:  # no row would be left
            return None
        if seen.fits:
            return _line(changes, seen, rows)
    return None


def _line(changes: Changes, seen: Outlook, rows: Rows) -> str:
    settings = " ".join(f"--set {name}={_yaml(value)}" for name, value in changes.items())
    text = f"{settings}  # {seen.memory.peak:.1f} GiB"
    if "prepare.max_length" in changes:
        num_lost = len(rows.lengths) - len(seen.lengths)
        if seen.num_cut or not num_lost:
            text += f", {seen.num_cut:,} answers are cut"
        if num_lost:
            text += f", {num_lost:,} of {len(rows.lengths):,} rows are left out"
    if "train.gradient_checkpointing" in changes:
        text += f", {seen.memory.recomputed_layers} layers recompute"
    if "train.activation_offloading" in changes:
        text += f", and {seen.memory.offloaded:.1f} GiB of the CPU's"
    return text


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checkpointing(recipe: Recipe) -> list[Changes]:
    """As many layers as need be, where the recipe names a number of them or none."""
    wanted = recipe.train.gradient_checkpointing
    automatic = wanted == "auto" or wanted is True
    return [] if automatic else [{"train.gradient_checkpointing": "auto"}]


def _offloading(recipe: Recipe, device: Device) -> list[Changes]:
    if device == "cpu" or recipe.train.activation_offloading:
        return []
    return [{"train.activation_offloading": True}]


def _widths(recipe: Recipe) -> list[Changes]:
    if recipe.model.load_in_4bit:
        return []
    if recipe.model.load_in_8bit:
        return [{"model.load_in_8bit": False, "model.load_in_4bit": True}]
    return [{"model.load_in_8bit": True}, {"model.load_in_4bit": True}]


def _lengths(recipe: Recipe, rows: Rows) -> list[Changes]:
    lengths = {percentile_length(rows, share) for share in SHARES}
    shorter = [n for n in sorted(lengths, reverse=True) if n < recipe.prepare.max_length]
    return [{"prepare.max_length": length} for length in shorter]


def _together(kinds: list[list[Changes]]) -> Iterator[Changes]:
    """All that costs no answer at once; then also shorter rows."""
    *costless, lengths = kinds
    changes: Changes = {}
    for steps in costless:
        if steps:
            changes |= steps[-1]
            yield dict(changes)
    for shorter in lengths:
        yield changes | shorter


def smaller_model(config: Any, check: Callable[[Any], Outlook]) -> str | None:
    """How large a model of this shape would fit, by halving its layers; None where none does.

    A configuration does not say which smaller models its family has, so none is named.
    """
    depth = config.get_text_config().num_hidden_layers
    whole = num_parameters(empty_model(config, torch.float32))
    while depth > 1:
        depth //= 2
        shape = shallow(config, depth)
        try:
            seen = check(shape)
        except RecipeError:  # what learns is named by layers that are no more
            return None
        if seen.fits:
            weights = num_parameters(empty_model(shape, torch.float32))
            return (
                f"# or a smaller model: {weights / 1e9:.2f} billion weights in layers of this "
                f"shape take {seen.memory.peak:.1f} GiB; this one has {whole / 1e9:.2f}"
            )
    return None
