"""Bases whose files are quantized already, by GPTQ or AWQ: what can be done with them here.

With the package gptqmodel (and optimum for GPTQ) their own kernels run, and PEFT puts adapters on
them. Without it a GPTQ base is dequantized as it is loaded, into plain layers of the same values:
that saves no memory, and is exact. Merging does so, too. An AWQ base needs the package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from burnish.errors import ModelError
from burnish.models.names import read_config
from burnish.progress import say
from burnish.recipe import ModelSection

_KERNELS = {"gptq": ("gptqmodel", "optimum"), "awq": ("gptqmodel",)}
"""What transformers needs to run them as they lie."""


def quantization_of(folder: Path) -> str | None:
    """How a model's files are quantized (`gptq`, `awq` …), by its config; None if they are not."""
    settings = read_config(folder).get("quantization_config")
    if not isinstance(settings, Mapping):
        return None
    return str(settings.get("quant_method") or "").lower() or None


def must_dequantize(folder: Path, section: ModelSection, *, whole: bool) -> bool:
    """Whether a base is to be dequantized as it is loaded.

    Args:
        folder: where it lies.
        section: the recipe's model section.
        whole: whether plain weights are asked for, to merge into.

    Raises:
        ModelError: it is quantized, and can't be had as the recipe asks.
    """
    kind = quantization_of(folder)
    if kind is None:
        return False
    if section.load_in_8bit or section.load_in_4bit:
        width = "load_in_8bit" if section.load_in_8bit else "load_in_4bit"
        raise ModelError(
            str(folder),
            f"its weights are quantized by {kind} already.",
            f"Set model.{width}: false, or name the model as it was before.",
        )
    missing = [p for p in _KERNELS.get(kind, ()) if importlib.util.find_spec(p) is None]
    if kind == "gptq":
        if missing and not whole:
            say(
                f"{' and '.join(missing)} not installed: the GPTQ base is dequantized, which is "
                "exact and saves no memory"
            )
        return whole or bool(missing)
    if whole:
        raise ModelError(
            str(folder),
            f"its weights are quantized by {kind}, so there are none to merge an adapter into.",
            "Serve the adapter unmerged (serve.artifact: adapter), or train on the model as it was "
            "before it was quantized.",
        )
    if missing:
        raise ModelError(
            str(folder),
            f"its weights are quantized by {kind}, which needs the package {missing[0]}.",
            f"Install it (pip install {missing[0]}; it needs a GPU), or name another model.",
        )
    return False
