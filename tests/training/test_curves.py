"""Curves in braille: dots, axes and names worked out by hand."""

from __future__ import annotations

import math

from burnish.training.curves import draw_curves


def lines(curves, width, height):
    return draw_curves(curves, width, height).plain.split("\n")


def test_two_points_are_joined_by_a_straight_line():
    # Two cells of 2 x 4 dots beside a label of 9 and a stroke: the dots go from the lower left
    # (0, 3) by (1, 2) and (2, 1) to the upper right (3, 0), two dots a cell.
    shown = lines({"loss": [(1, 0), (4, 3)]}, 12, 1)
    left, right = chr(0x2800 + 0x40 + 0x20), chr(0x2800 + 0x02 + 0x08)
    assert shown == ["loss 3  ", f"        0│{left}{right}", "          14"]


def test_the_axes_have_the_range_of_all_curves_and_the_legend_the_last_values():
    shown = lines({"train/loss": [(0, 2.5), (10, 1.5)], "validation/loss": [(10, 3.25)]}, 40, 4)
    assert shown[0] == "train/loss 1.5  validation/loss 3.25  "
    assert shown[1].startswith("     3.25│")
    assert shown[4].startswith("      1.5│")
    assert shown[5].split() == ["0", "10"]
    assert {len(line) for line in shown[1:5]} == {40}
    assert len(shown) == 6


def test_each_curve_has_a_colour_of_its_own():
    text = draw_curves({"a": [(0, 0), (1, 1)], "b": [(0, 1), (1, 0)]}, 30, 3)
    assert {"cyan", "yellow"} <= {str(span.style) for span in text.spans}


def test_values_that_are_not_finite_are_left_out():
    assert lines({"x": [(0, math.nan), (1, 2.0), (2, math.inf)]}, 30, 2)[0] == "x 2  "


def test_a_single_value_and_none_at_all_are_drawn_too():
    assert "x 7  " in lines({"x": [(1, 7.0)]}, 30, 2)
    empty = lines({"x": []}, 30, 3)
    assert empty[:2] == ["x  ", "  no values yet"]
    assert len(empty) == 5


def test_small_numbers_are_short():
    shown = lines({"lr": [(1, 2e-4), (123456, 1.5e-5)]}, 40, 2)
    assert shown[0] == "lr 1.5e-05  "
    assert shown[1].startswith("  2.0e-04│")
    assert shown[-1].split() == ["1", "123456"]
