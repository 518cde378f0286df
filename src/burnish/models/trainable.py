"""Which weights of a model learn, by the recipe's method; training and planning ask here.

What learns is held in float32: an update of 1e-5 of a weight is lost in bfloat16, which knows three
digits. So bfloat16 speeds up the products (under autocast), while weights, gradients and the
optimizer's state stay exact: 16 bytes a learning weight with AdamW.

Source: Micikevicius et al. 2018, "Mixed Precision Training" (master weights).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from burnish.errors import RecipeError, first_line
from burnish.models.lora import lora_config
from burnish.recipe import TrainSection

if TYPE_CHECKING:
    import torch


def held_in(section: TrainSection, compute: torch.dtype, own: torch.dtype) -> torch.dtype:
    """The type that a base is loaded in.

    Args:
        section: the recipe's train section.
        compute: what the products of the forward pass are computed in.
        own: the type of the base's weights on disk.
    """
    import torch

    if section.method == "full":
        return torch.float32
    if section.method == "freeze" and own != compute:
        # The frozen part is saved with the rest, so it must not be rounded.
        return torch.float32
    return compute


def make_trainable(
    model: Any,
    section: TrainSection,
    *,
    initialize: bool = True,
    new_rows: Mapping[str, Sequence[int]] | None = None,
) -> Any:
    """The model with what the recipe's method trains: a PeftModel, or the model itself.

    Args:
        model: a base, on any device (meta, too, if `initialize` is False).
        section: the recipe's train section.
        initialize: whether the adapter gets initial values that follow from the base's weights.
        new_rows: rows of the embedding and the head that learn with an adapter.

    Raises:
        RecipeError: freeze_trainable_layers or target_modules name nothing in this model.
    """
    if section.method != "lora":
        return _unfreeze(model, section)
    from peft import get_peft_model

    config = lora_config(section.lora, initialize=initialize, new_rows=new_rows)
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise RecipeError(
            "train.lora.target_modules",
            f"{section.lora.target_modules!r} ({first_line(error)}) fits no layer of this model.",
            "Name linear layers of it, or take all-linear.",
        ) from None


def _unfreeze(model: Any, section: TrainSection) -> Any:
    import torch

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in _learning(model, section):
        parameter.data = parameter.data.to(torch.float32)
        parameter.requires_grad_(True)
    return model


def _learning(model: Any, section: TrainSection) -> Iterator[Any]:
    """The parameters that the method trains; a tied one learns if either of its names does."""
    if section.method == "full":
        yield from model.parameters()
        return
    wanted = section.freeze_trainable_layers
    if isinstance(wanted, int):
        yield from _last_layers(model, wanted)
        return
    named = [(f".{name}.", p) for name, p in model.named_parameters(remove_duplicate=False)]
    for part in wanted:
        found = [p for name, p in named if f".{part}." in name]
        if not found:
            raise RecipeError(
                "train.freeze_trainable_layers",
                f"{part!r} names no part of this model.",
                f"Its parts are {', '.join(_parts(model))}, or single layers such as "
                f"{layers_of(model)[0]}.0.",
            )
        yield from found


def _last_layers(model: Any, count: int) -> Iterator[Any]:
    _, layers = layers_of(model)
    if count > len(layers):
        raise RecipeError(
            "train.freeze_trainable_layers",
            f"this model has {len(layers)} layers, not {count}.",
            "Lower it, or set train.method: full.",
        )
    for layer in layers[len(layers) - count :]:
        yield from layer.parameters()


def layers_of(model: Any) -> tuple[str, Any]:
    """A decoder's stack of layers: its name within the model (`layers`, `h`) and the modules.

    Raises:
        RecipeError: the model has no such stack.
    """
    import torch

    count = int(model.config.get_text_config().num_hidden_layers)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return name.rpartition(".")[2], module
    raise RecipeError(
        "train.freeze_trainable_layers",
        "this model has no list of layers to count.",
        "Name the parts that shall learn, or set train.method: full.",
    )


def _parts(model: Any) -> list[str]:
    """The names of a model's parts that have weights: its own and those of its body."""
    body = getattr(model, model.base_model_prefix, model)
    names = [n for m in (body, model) for n, c in m.named_children() if c is not body]
    return list(dict.fromkeys(names))
