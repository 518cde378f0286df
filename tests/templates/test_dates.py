"""A template that writes today's date is made to write one day."""

from __future__ import annotations

from datetime import date

import pytest
from jinja2 import TemplateError

from burnish.templates.dates import pinned_day, with_day, writes_date
from tests.conftest import byte_tokenizer

DAY = date(2026, 3, 9)
HI = [{"role": "user", "content": "Hi"}]


def written(template):
    return byte_tokenizer(template).apply_chat_template(HI, tokenize=False)


@pytest.mark.parametrize(
    "template, text",
    [
        ("{{ strftime_now('%d %b %Y') }}.", "09 Mar 2026."),
        ('\n{{- strftime_now( "%Y-%m-%d" ) }}', "2026-03-09"),
        ("\n{{ strftime_now('%Y') }}", "\n2026"),
        ("{% if strftime_now is defined %}{{ strftime_now('%d') }}{% endif %}x", "09x"),
        (
            "{%- set today = strftime_now('%d') %}{% for m in messages %}{{ today }}{% endfor %}",
            "09",
        ),
    ],
)
def test_the_day_stands_where_today_stood(template, text):
    pinned = with_day(template, DAY)
    assert written(pinned) == text
    assert writes_date(template)
    assert not writes_date(pinned)
    assert pinned_day(pinned) == "2026-03-09"


def test_a_template_that_has_its_day_keeps_it():
    pinned = with_day("{{ strftime_now('%d') }}", DAY)
    assert with_day(pinned, date(2027, 1, 1)) == pinned


def test_a_template_without_a_date_stays_as_it_is():
    assert with_day("{{ messages }}", DAY) == "{{ messages }}"
    assert pinned_day("{{ messages }}") is None


def test_a_form_that_is_made_while_rendering_is_refused_rather_than_left_out():
    template = "{% set form = '%' ~ 'd' %}{{ strftime_now(form) }}{{ strftime_now('%Y') }}"
    with pytest.raises(TemplateError, match="this form of a date is not known: %d"):
        written(with_day(template, DAY))
