"""Chat templates that write today's date, made to write one day.

Llama 3.2, gpt-oss and others put the date into the system prompt. Left alone, training would see
the day on which rows were prepared, and a server every day after it: other prompts than those that
were learned.
"""

from __future__ import annotations

import json
import re
from datetime import date

_FORMATS = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1")
_PINNED = re.compile(r"\A\{#- burnish: today is (\d{4}-\d\d-\d\d) -#\}")


def writes_date(template: str) -> bool:
    """Whether a template writes the day on which it is rendered."""
    return "strftime_now" in template and pinned_day(template) is None


def pinned_day(template: str) -> str | None:
    """The day (ISO 8601) that a template takes for today, if `with_day` made it."""
    found = _PINNED.match(template)
    return found[1] if found else None


def with_day(template: str, day: date) -> str:
    """The template behind a macro in place of the function for the time; itself if it has none."""
    if not writes_date(template):
        return template
    texts = {found: day.strftime(found) for _, found in _FORMATS.findall(template)}
    known = json.dumps(texts)
    unknown = "raise_exception('this form of a date is not known: ' + format)"
    return (
        f"{{#- burnish: today is {day.isoformat()} -#}}"
        "{%- macro strftime_now(format) -%}"
        f"{{{{ {known}[format] if format in {known} else {unknown} }}}}"
        # The empty output behind the macro keeps the template's first line break.
        "{%- endmacro %}{{ '' }}" + template
    )
