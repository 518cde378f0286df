"""What varies: values, ranges, and what is neither."""

from __future__ import annotations

import pytest

from burnish.errors import RecipeError
from burnish.sweeping.axes import Axis, parse_axis


@pytest.mark.parametrize(
    "text, axis",
    [
        ("train.learning_rate=1e-4,3e-4", Axis("train.learning_rate", (1e-4, 3e-4))),
        ("train.lora.r=8", Axis("train.lora.r", (8,))),
        ("a.b = x , [q, v], true", Axis("a.b", ("x", ["q", "v"], True))),
        ("a=1..8", Axis("a", low=1, high=8)),
        ("a=1e-5..1e-3:log", Axis("a", low=1e-5, high=1e-3, log=True)),
        ("a=../model,./other", Axis("a", ("../model", "./other"))),
        ("a=base/../model", Axis("a", ("base/../model",))),
        ("a=2026-01-31,2026-02-01", Axis("a", ("2026-01-31", "2026-02-01"))),
        ("a='x, y',\"z\"", Axis("a", ("x, y", "z"))),
    ],
)
def test_an_axis_is_a_list_of_values_or_a_range(text, axis):
    assert parse_axis(text) == axis


@pytest.mark.parametrize(
    "text",
    [
        "train.learning_rate",
        "=1,2",
        "a=",
        "a=8..1",
        "a=0..1:log",
        "a=x..y",
        "a=[1",
        "a=,",
        "a=8,4,8",
    ],
)
def test_what_is_no_axis_is_refused(text):
    with pytest.raises(RecipeError) as caught:
        parse_axis(text)
    assert caught.value.where.startswith("--vary")
