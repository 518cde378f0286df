"""A chat template that comes with a model is rendered once where it can do no harm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from burnish.errors import ModelError
from burnish.templates import trial

MEMORY_MIB = 512
"""Address space of the process that renders it; Python and Jinja take about 50 MiB of it."""
CPU_SECONDS = 2
"""Processor time of that process; a usual template takes milliseconds."""
WALL_SECONDS = 30
"""What it may take on the clock, on a busy machine."""

_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT)  # what C code does without memory


def check_template(template: str, variables: Mapping[str, Any], where: str) -> None:
    """Renders a template in a process of its own, with limits of time and memory.

    Args:
        template: the source.
        variables: the tokenizer's special tokens by name, such as `eos_token`.
        where: the model, for the error.

    Raises:
        ModelError: it takes too much of either.
    """
    problem = _try_out(template, json.dumps(variables, default=str, sort_keys=True))
    if problem is not None:
        raise ModelError(
            where,
            problem,
            "Do not use this model as it is, or set model.chat_template: plain_en.",
        )


@lru_cache(maxsize=64)
def _try_out(template: str, variables: str) -> str | None:
    request = {
        "template": template,
        "variables": json.loads(variables),
        "memory_bytes": MEMORY_MIB * 2**20,
        "cpu_seconds": CPU_SECONDS,
    }
    command = [sys.executable, "-I", trial.__file__]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request).encode("utf-8", "surrogatepass"),
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"rendering its chat template once takes more than {WALL_SECONDS} s."
    if done.returncode == trial.OUT_OF_MEMORY or done.returncode in _CRASHES:
        return f"rendering its chat template once takes more than {MEMORY_MIB} MiB of memory."
    if done.returncode < 0:
        return f"rendering its chat template once takes more than {CPU_SECONDS} s."
    return None
