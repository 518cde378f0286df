"""Puts a fresh LoRA adapter on a base, and checks that it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.errors import MissingExtraError, RecipeError, TrainingError
from burnish.models.lora import lora_config
from burnish.recipe import LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapter(
    base: PreTrainedModel, settings: LoraSettings, *, gradient_checkpointing: bool
) -> Any:
    """The base with a new adapter (a PeftModel): the base is frozen, the adapter in float32.

    Raises:
        RecipeError: target_modules names a layer that the model does not have.
    """
    try:
        from peft import get_peft_model, prepare_model_for_kbit_training
    except ImportError:
        raise MissingExtraError("peft", "train") from None
    if getattr(base, "is_quantized", False):
        base = prepare_model_for_kbit_training(
            base, use_gradient_checkpointing=gradient_checkpointing
        )
    elif gradient_checkpointing:
        base.enable_input_require_grads()
    _check_targets(base, settings.target_modules)
    try:
        return get_peft_model(base, lora_config(settings))
    except ValueError as error:
        raise _unfit(base, f"{settings.target_modules!r} ({_first_line(error)})") from None


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


def check_gradients(model: Any) -> None:
    """Checks, between backward pass and update, that every adapter layer received a gradient.

    At the start of training LoRA's B is zero, so A's gradient is zero and B's is not; a layer whose
    A and B both have none learns nothing.

    Raises:
        TrainingError: a layer got no gradient, or one that is not finite.
    """
    for name, module in model.named_modules():
        if not hasattr(module, "lora_B") or not len(module.lora_B):
            continue
        norms = [
            0.0 if p.grad is None else float(p.grad.norm())
            for p in [*module.lora_A.parameters(), *module.lora_B.parameters()]
        ]
        if not all(norm == norm and norm != float("inf") for norm in norms):
            raise TrainingError(
                name,
                "the gradient of this adapter layer is not finite.",
                "Lower train.learning_rate, or set train.bf16: false.",
            )
        if not any(norms):
            raise TrainingError(
                name,
                "this adapter layer received no gradient, so training would change nothing.",
                "With a 4-bit base on a CPU this is a known fault of bitsandbytes; update it, or "
                "set model.load_in_4bit: false.",
            )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".")
