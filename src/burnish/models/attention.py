"""Which attention a model's own forward takes: flash-attn where GPU, model and type allow it.

flash-attn computes the records of a packed row one by one; the others compute the square of the
whole row and mask what lies between records. Only the package flash-attn is used, never kernels
that transformers would fetch from a hub in its place. Where it is not installed, training takes the
kernel that torch carries (training/varlen.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.errors import RecipeError

if TYPE_CHECKING:
    import torch

FLASH = "flash_attention_2"

WIDEST_HEAD = 256
"""flash-attn's kernels hold no wider heads."""


def check_attention(wanted: str, device: torch.device, dtype: torch.dtype) -> None:
    """Checks that the attention a recipe names can run on a device, in a type.

    Raises:
        RecipeError: it can't.
    """
    why = _against_flash(device, dtype) if wanted == FLASH else ""
    if why:
        raise RecipeError(
            "model.attn_implementation", f"{FLASH} can't be taken: {why}.", "Set auto or sdpa."
        )


def prefer_flash(model: Any) -> None:
    """Lets a model attend by flash-attn if it can; otherwise it stays with what it has."""
    others = getattr(model, "_compatible_flash_implementations", None)
    fits = getattr(model, "_supports_flash_attn", False) and (not others or FLASH in others)
    if not fits or head_width(model) > WIDEST_HEAD or _against_flash(model.device, model.dtype):
        return
    try:
        model.set_attn_implementation(FLASH)
    except (ImportError, ValueError):  # an installation that does not fit this torch
        return


def leave_flash(model: Any) -> str:
    """Lets a model attend without flash-attn; returns the name of the attention it then has."""
    other = "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"
    model.set_attn_implementation(other)
    return other


def attention_of(model: Any) -> str:
    """The name of a model's attention in transformers."""
    return str(getattr(model.config.get_text_config(), "_attn_implementation", None) or "eager")


def against_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """What speaks against kernels of flash-attn's kind; empty if nothing does."""
    import torch

    if device.type != "cuda":
        return "it needs a GPU"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of the Ampere generation or a later one"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"it computes in bfloat16 or float16, not in {str(dtype).removeprefix('torch.')}"
    return ""


def head_width(model: Any) -> int:
    """How many numbers a head of a model has."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    return int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def _against_flash(device: torch.device, dtype: torch.dtype) -> str:
    from transformers.utils import is_flash_attn_2_available

    why = against_kernels(device, dtype)
    if not why and not is_flash_attn_2_available():
        return "the package flash-attn is not installed"
    return why
