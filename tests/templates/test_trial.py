"""The process that renders a template: here its parts, in tests of limits.py the whole."""

from __future__ import annotations

import io
import json

import pytest

from burnish.templates import trial


@pytest.mark.parametrize(
    "template",
    [
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}",
        "{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ strftime_now('%d') }}{{ eos_token }}",
        "{{ tools | tojson(indent=2) }}",
    ],
)
def test_what_templates_use_is_there(template, monkeypatch):
    # Nothing is passed over, so whatever is missing would raise.
    monkeypatch.setattr(trial, "_passed_over", lambda attempt: attempt())
    trial.render(template, {"eos_token": "</s>"})


@pytest.mark.parametrize(
    "template",
    [
        "{% if %}",
        "{{ raise_exception('no') }}",
        "{{ messages[9].x.y }}",
        "{{ 1 / 0 }}",
        "{{ x() }}",
    ],
)
def test_a_template_that_refuses_or_fails_is_none_of_its_business(template):
    trial.render(template, {})


def test_want_of_memory_is_an_exit_status(monkeypatch):
    def starve(template, variables):
        raise MemoryError

    request = {"template": "a", "variables": {}, "memory_bytes": 1, "cpu_seconds": 1}
    monkeypatch.setattr(trial, "limit", lambda memory_bytes, cpu_seconds: None)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    assert trial.main() == 0
    monkeypatch.setattr(trial, "render", starve)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    assert trial.main() == trial.OUT_OF_MEMORY
