"""The report is read back from the file as it was."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from burnish.labels.report import LabelReport
from tests.labels.sets import audited, masked, plain_rows


def test_a_report_survives_being_saved():
    report = audited([masked(row, -1) for row in plain_rows()])
    assert LabelReport.model_validate(json.loads(json.dumps(report.model_dump()))) == report


def test_nothing_writes_to_a_report():
    report = audited(plain_rows())
    with pytest.raises(ValidationError, match="frozen"):
        report.num_errors = 0


def test_on_a_terminal_each_finding_has_its_level_remedy_and_first_rows():
    findings = audited([masked(row, -1) for row in plain_rows()]).for_reader()["findings"]
    assert list(findings) == ["masked_stop_token"]
    assert list(findings["masked_stop_token"]) == ["error", "remedy", "first"]
    assert findings["masked_stop_token"]["error"].endswith("'<|im_end|>' 10 times (10 rows)")
    assert findings["masked_stop_token"]["first"].startswith("data.jsonl:1, data.jsonl:2")
