"""PEFT's configuration of a recipe's adapter; training and planning must mean the same one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.errors import MissingExtraError
from burnish.recipe import LoraSettings


def lora_config(
    settings: LoraSettings,
    *,
    initialize: bool = True,
    new_rows: Mapping[str, Sequence[int]] | None = None,
) -> Any:
    """The LoraConfig of a recipe.

    Args:
        settings: the adapter.
        initialize: False leaves out initial values that are worked out from a base's weights, for
            a base that has none (on the meta device) or an adapter that is only counted or timed.
        new_rows: rows of the embedding and the head that learn, by the name of the layer.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise MissingExtraError("peft", "train") from None
    start = settings.init_lora_weights
    if not initialize or start == "loftq":
        start = True  # LoftQ's values are put in afterwards (training/loftq.py)
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        bias=settings.bias,
        target_modules=settings.target_modules,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        init_lora_weights=start,
        trainable_token_indices={k: list(v) for k, v in new_rows.items()} if new_rows else None,
        task_type="CAUSAL_LM",
    )


def base_of(model: Any) -> Any:
    """The transformers model inside a PeftModel; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
