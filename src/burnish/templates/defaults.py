"""What a chat template is given besides messages and tools, made part of the template."""

from __future__ import annotations

import json
from collections.abc import Mapping

Value = bool | int | float | str


def with_defaults(template: str, values: Mapping[str, Value]) -> str:
    """The template, which takes these values for variables that it is not given.

    So every server that uses the template takes them, too. Given twice they stay as they were.
    """
    # Jinja, as transformers and llama.cpp set it up, leaves out a line break behind a tag.
    lines = (
        f"{{%- if {name} is not defined %}}{{% set {name} = {json.dumps(value)} %}}{{% endif %}}\n"
        for name, value in values.items()
    )
    defaults = "".join(lines)
    return template if defaults in template else defaults + template
