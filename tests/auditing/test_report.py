"""The parts of a report are values: frozen, and the same after JSON."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from burnish.auditing.report import Change, Examples


def test_a_report_is_frozen():
    change = Change(before="a", after="b")
    with pytest.raises(ValidationError):
        change.after = "c"


def test_examples_of_changes_and_of_places_stand_side_by_side():
    examples = Examples(
        faults={},
        rules={},
        repairs={},
        switched_off={"a": {"x:1": Change(before="1", after="2")}, "b": {"x:2": "place"}},
        duplicates={},
        personal_data={},
        benchmark_items={},
    )
    assert Examples.model_validate_json(examples.model_dump_json()) == examples
