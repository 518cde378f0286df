"""Variables of a template that a recipe sets."""

from __future__ import annotations

import pytest

from burnish.templates.defaults import with_defaults
from tests.conftest import byte_tokenizer

HI = [{"role": "user", "content": "Hi"}]


def written(template, **options):
    tokenizer = byte_tokenizer(template)
    return tokenizer.apply_chat_template(HI, tokenize=False, **options)


@pytest.mark.parametrize(
    "template, values, text",
    [
        ("{{ 'on' if think else 'off' }}", {"think": False}, "off"),
        ("{{ 'on' if think is not defined or think else 'off' }}", {"think": False}, "off"),
        ("{% for m in messages %}{{ effort }}{% endfor %}", {"effort": "high\n'\"é"}, "high\n'\"é"),
        ("\n{{ a + b }}", {"a": 1, "b": 0.5}, "\n1.5"),
        ("  {% if a %}x{% endif %}", {"a": True}, "x"),
        ("{% macro said() %}{{ a }}{% endmacro %}{{ said() }}", {"a": 7}, "7"),
    ],
)
def test_a_template_takes_what_it_is_not_given(template, values, text):
    assert written(with_defaults(template, values)) == text


def test_what_a_template_is_given_comes_before_its_defaults():
    assert written(with_defaults("{{ a }}", {"a": 1}), a=2) == "2"


def test_defaults_that_are_there_are_not_added_again():
    once = with_defaults("{{ a }}", {"a": 1})
    assert with_defaults(once, {"a": 1}) == once
    assert with_defaults("{{ a }}", {}) == "{{ a }}"
