"""What varies in a sweep: settings with their values, or with ranges that a search draws from."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import RecipeError
from burnish.recipe import Recipe
from burnish.recipe_file import yaml_values

_RANGE = re.compile(r"([^.\s/][^\s/]*?)\.\.([^\s/]+?)(:log)?")

_LOOKED_AT = ("data", "clean", "prepare", "model", "train")
"""The sections that decide what a trial reaches; it is not evaluated, merged or served."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting and the values that it takes, or the range that a search draws them from."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def is_range(self) -> bool:
        """Whether values are drawn rather than listed."""
        return not self.values

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def parse_axis(text: str) -> Axis:
    """An axis from `key=value,value` or, for a search, `key=low..high` or `key=low..high:log`.

    Raises:
        RecipeError: it is none of these.
    """
    key, equals, listed = (part.strip() for part in text.partition("="))
    if not (key and equals and listed):
        raise RecipeError(
            f"--vary {text}",
            "this is no setting with values.",
            "Write it as train.learning_rate=1e-4,3e-4, or train.learning_rate=1e-5..1e-3:log.",
        )
    match = _RANGE.fullmatch(listed)
    if match is None:
        return Axis(key, _distinct(yaml_values(listed, f"--vary {text}"), text))
    low, high = yaml_values(f"{match[1]},{match[2]}", f"--vary {text}")
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (low, high))
    if not numbers or low >= high or (match[3] and low <= 0):
        raise RecipeError(
            f"--vary {text}",
            f"{listed} is no range of numbers.",
            "The lower end comes first; on a logarithmic scale it is above 0.",
        )
    return Axis(key, low=low, high=high, log=bool(match[3]))


def _distinct(values: Sequence[Any], text: str) -> tuple[Any, ...]:
    """The values, of which no two are the same; a date as the text that stands for it."""
    texts = [json.dumps(value, default=str) for value in values]
    for each in texts:
        if texts.count(each) > 1:
            raise RecipeError(f"--vary {text}", f"{each} stands there twice.", "Name it once.")
    return tuple(map(json.loads, texts))


def check_axes(axes: Sequence[Axis], search: int | None) -> None:
    """Refuses what makes no sweep: no axis, one given twice, one that no trial looks at.

    Raises:
        RecipeError: says which.
    """
    if not axes:
        raise RecipeError(
            "--vary", "nothing varies.", "Name a setting: --vary train.learning_rate=1e-4,3e-4"
        )
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise RecipeError(f"--vary {key}", "it is given twice.", "Put all its values in one.")
        if (section := key.partition(".")[0]) in Recipe.model_fields and section not in _LOOKED_AT:
            raise RecipeError(
                f"--vary {key}",
                "a trial is trained and no more, so this would change nothing in it.",
                f"Vary settings of {', '.join(_LOOKED_AT)}.",
            )
    if search is None and any(axis.is_range for axis in axes):
        raise RecipeError(
            "--vary", "a range has no end of values.", "Say how many to try with --search 10."
        )


def combinations(axes: Sequence[Axis]) -> Iterable[dict[str, Any]]:
    """The settings of every combination of values; of a range its two ends."""
    values = [(axis.low, axis.high) if axis.is_range else axis.values for axis in axes]
    for chosen in itertools.product(*values):
        yield dict(zip((axis.key for axis in axes), chosen, strict=True))
