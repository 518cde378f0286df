"""Curves in a terminal: a braille character is 2 x 4 dots, so a cell shows eight points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from rich.text import Text

Points = Sequence[tuple[float, float]]

STYLES = ("cyan", "yellow", "magenta")
"""Of the first, second and third curve."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of a dot by its row and column in the cell (Unicode, block Braille Patterns)."""

_BLANK = 0x2800
_LABEL = 9


def draw_curves(curves: Mapping[str, Points], width: int, height: int) -> Text:
    """Curves over one another, with the range of both axes: `height` + 2 lines of `width` cells.

    Values that are not finite are left out. The first line names the curves and their last values.
    """
    finite = {
        name: [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
        for name, points in curves.items()
    }
    text = _legend(finite)
    everything = [point for points in finite.values() for point in points]
    if not everything:
        return text.append("\n  no values yet" + "\n" * height)
    columns = max(width - _LABEL - 1, 2)
    (left, right), (low, high) = (
        _span([x for x, _ in everything]),
        _span([y for _, y in everything]),
    )
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    for style, points in zip(STYLES, finite.values(), strict=False):
        places = [
            (
                round((x - left) / (right - left) * (2 * columns - 1)),
                round((high - y) / (high - low) * (4 * height - 1)),
            )
            for x, y in points
        ]
        for x, y in _joined(places):
            cell = (y // 4, x // 2)
            bits = cells[cell][0] if cell in cells else 0
            cells[cell] = (bits | _DOTS[y % 4][x % 2], style)
    for row in range(height):
        label = {0: _number(high), height - 1: _number(low)}.get(row, "")
        text.append(f"\n{label:>{_LABEL}}│", style="dim")
        for column in range(columns):
            bits, style = cells.get((row, column), (0, ""))
            text.append(chr(_BLANK + bits) if bits else " ", style=style)
    ends = f"{_number(left)}{_number(right):>{columns - len(_number(left))}}"
    return text.append(f"\n{'':{_LABEL}} {ends}", style="dim")


def _legend(curves: Mapping[str, Points]) -> Text:
    text = Text(no_wrap=True)
    for style, (name, points) in zip(STYLES, curves.items(), strict=False):
        last = f" {_number(points[-1][1])}" if points else ""
        text.append(f"{name}{last}  ", style=style)
    return text


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest value, a little apart if they are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)


def _joined(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The dots, and those on the straight lines between neighbours."""
    dots = list(places[:1])
    for (x, y), (to_x, to_y) in itertools.pairwise(places):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        dots += [
            (x + round((to_x - x) * i / steps), y + round((to_y - y) * i / steps))
            for i in range(1, steps + 1)
        ]
    return dots


def _number(value: float) -> str:
    """At most eight characters."""
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.1e}"
