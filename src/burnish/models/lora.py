"""PEFT's configuration of a recipe's adapter; training and planning must mean the same one."""

from __future__ import annotations

from typing import Any

from burnish.errors import MissingExtraError
from burnish.recipe import LoraSettings


def lora_config(settings: LoraSettings) -> Any:
    """The LoraConfig of a recipe.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise MissingExtraError("peft", "train") from None
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        bias=settings.bias,
        target_modules=settings.target_modules,
        task_type="CAUSAL_LM",
    )
