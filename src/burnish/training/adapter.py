"""Puts a fresh LoRA adapter on a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from burnish.errors import MissingExtraError, RecipeError, first_line
from burnish.models.lora import lora_config
from burnish.recipe import LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapter(
    base: PreTrainedModel,
    settings: LoraSettings,
    *,
    new_rows: Mapping[str, Sequence[int]] | None = None,
) -> Any:
    """The base with a new adapter (a PeftModel): the base is frozen, the adapter in float32.

    Args:
        base: the base, on its device.
        settings: the adapter.
        new_rows: rows of the embedding and the head that learn too, by the name of the layer.

    Raises:
        RecipeError: target_modules names a layer that the model does not have, or r is more than a
            start from the base's weights can give.
    """
    try:
        from peft import get_peft_model, prepare_model_for_kbit_training
    except ImportError:
        raise MissingExtraError("peft", "train") from None
    if getattr(base, "is_quantized", False):
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    _check_targets(base, settings.target_modules)
    try:
        model = get_peft_model(base, lora_config(settings, new_rows=new_rows))
    except ValueError as error:
        raise _unfit(base, f"{settings.target_modules!r} ({first_line(error)})") from None
    _sort_targets(model.peft_config["default"])
    _check_rank(model, settings)
    if new_rows:
        # The rows are saved as what they are; PEFT would add the whole embedding, which has grown.
        model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    return model


def _sort_targets(config: Any) -> None:
    """A set is written in another order by each process; the same run shall give the same file."""
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)


def _check_rank(model: Any, settings: LoraSettings) -> None:
    """A start from a weight's own parts has no more of them than its smaller side."""
    if not settings.changes_base and settings.init_lora_weights != "loftq":
        return
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "in_features"):
            most = min(module.in_features, module.out_features)
            if settings.r > most:
                raise RecipeError(
                    "train.lora.r",
                    f"init_lora_weights: {settings.init_lora_weights} gives {name} at most rank "
                    f"{most}, not {settings.r}.",
                    f"Set r to {most} or less.",
                )


def _check_targets(base: Any, targets: str | list[str]) -> None:
    """PEFT passes over a name that fits no layer as long as another one does; this doesn't."""
    if isinstance(targets, str):
        return
    names = [f".{name}" for name, _ in base.named_modules()]
    for target in targets:
        if not any(name.endswith(f".{target}") for name in names):
            raise _unfit(base, f"{target!r}")


def _unfit(base: Any, what: str) -> RecipeError:
    return RecipeError(
        "train.lora.target_modules",
        f"{what} fits no layer of this model.",
        f"Its linear layers are {', '.join(linear_layers(base))}; all-linear takes them all.",
    )


def linear_layers(model: Any) -> list[str]:
    """The last parts of the names of a model's linear layers, the head left out."""
    head = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if hasattr(module, "in_features") and module is not head
        }
    )
