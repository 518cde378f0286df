"""Attention over the records of a packed row, each by itself, by PyTorch's own kernel.

    o[i] = softmax_j(q[i] k[j]ᵀ scaling) v[j]    over the j ≤ i of i's own record

It is flash-attn's kernel as torch carries it, so it needs no package that has to be built. It
computes rows whose boundaries `PackedModel` gives; whatever else goes through the model (generating
with a cache, padded batches) is left to sdpa, whose masks it asks for.

Source: Dao 2023, "FlashAttention-2"; torch.nn.attention.varlen, from torch 2.11 on.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from torch import Tensor

from burnish.models.attention import WIDEST_HEAD, against_kernels, head_width
from burnish.models.lora import base_of

VARLEN = "varlen"
"""The name that transformers knows it by."""

_UNKNOWN = ("softcap", "s_aux", "position_bias", "cache")
"""What some models add to attention, and the kernel does not compute."""


def against_varlen(model: Any) -> str:
    """What speaks against this attention for a model; empty if nothing does."""
    base = base_of(model)
    if why := against_kernels(base.device, base.dtype):
        return why
    if not getattr(base, "_supports_attention_backend", False):
        return "the model takes no attention but its own"
    if head_width(base) > WIDEST_HEAD:
        return f"its heads are wider than {WIDEST_HEAD}"
    return "" if _kernel_parameters() else "this torch has none; it came with 2.11"


def use_varlen(model: Any) -> None:
    """Lets a model's own forward attend by it."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    grouped = {"enable_gqa": True} if "enable_gqa" in _kernel_parameters() else {}
    AttentionInterface.register(VARLEN, partial(attend, grouped=grouped))
    AttentionMaskInterface.register(VARLEN, sdpa_mask)
    base_of(model).set_attn_implementation(VARLEN)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    grouped: dict[str, bool],
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention, as transformers calls for it.

    Args:
        module: the layer's attention.
        query: [1, heads, tokens, width].
        key: [1, key heads, tokens, width].
        value: as key.
        attention_mask: looked at only where no boundaries are given.
        grouped: how the kernel is told that key heads may be fewer; torch 2.11 need not be.
        settings: scaling, dropout, a window, and `cu_seq_lens_q` [records + 1] int32, the places
            where records begin and end.

    Returns:
        [1, tokens, heads, width], and no weights.

    Raises:
        ValueError: the model adds something that the kernel does not compute.
    """
    ends = settings.get("cu_seq_lens_q")
    if ends is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **settings
        )
        return result
    from torch.nn.attention import varlen

    run: Any = varlen.varlen_attn  # its parameters differ from torch to torch
    unknown = [name for name in _UNKNOWN if settings.get(name) is not None]
    if settings.get("dropout"):
        unknown.append("dropout")
    if unknown:
        raise ValueError(f"PyTorch's varlen attention has no {' and no '.join(unknown)}")
    window, longest = settings.get("sliding_window"), settings["max_length_q"]
    rows = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, width]
    back = {"window_size": (window - 1 if window else -1, 0)}
    scale = {"scale": settings.get("scaling")}
    output = run(*rows, ends, ends, longest, longest, **scale, **back, **grouped)
    return output[None], None


def _kernel_parameters() -> frozenset[str]:
    """What the kernel of this torch can be told; empty where it has none that fits."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return frozenset()
    names = frozenset(inspect.signature(varlen.varlen_attn).parameters)
    return names if {"window_size", "scale"} <= names else frozenset()
