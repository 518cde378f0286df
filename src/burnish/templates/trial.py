"""Renders a chat template once, as a process of its own that may be killed.

Reads JSON from standard input: the template, the variables that it may use, and the limits. Needs
Jinja alone, so that it starts in a tenth of a second. It stands in for transformers' environment:
the same sandbox, extensions, filters and globals. A template that it can't render otherwise is
none of its business: only time and memory are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

OUT_OF_MEMORY = 3
"""The exit status where memory did not suffice."""

_ASKED = {"role": "user", "content": "a"}
_SAID = {"role": "assistant", "content": "b"}
_TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
_USUAL = {"tools": None, "documents": None, "add_generation_prompt": False}
_TRIALS: tuple[dict[str, Any], ...] = (
    {"messages": [_ASKED, _SAID, _ASKED], "add_generation_prompt": True},
    {"messages": [{"role": "system", "content": "s"}, _ASKED, _SAID]},
    {"messages": [_ASKED], "tools": [{"type": "function", "function": _TOOL}]},
)


class _Generation(Extension):
    """The tag `{% generation %}`, which marks what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def render(template: str, variables: dict[str, Any]) -> None:
    """Renders a few conversations; what a template refuses is passed over."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
    for trial in _TRIALS:
        given = {**variables, **_USUAL, **trial}
        _passed_over(partial(_render_once, environment, template, given))


def _render_once(
    environment: ImmutableSandboxedEnvironment, template: str, variables: dict[str, Any]
) -> None:
    environment.from_string(template).render(variables)


def _passed_over(attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except MemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TemplateError):
        pass
    except (TypeError, ValueError):
        pass


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Limits this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """The exit status: 0, or OUT_OF_MEMORY."""
    request = json.load(sys.stdin)
    limit(request["memory_bytes"], request["cpu_seconds"])
    try:
        render(request["template"], request["variables"])
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


if __name__ == "__main__":
    sys.exit(main())
