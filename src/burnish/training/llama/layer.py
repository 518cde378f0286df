"""One layer of a Llama-like model as a function with its derivative written out.

    h = rms_norm(x) w1           q, k, v = h W_qkv          q, k = rotate(norm(q), norm(k))
    x' = x + attention(q, k, v) W_o
    y = x' + swiglu(rms_norm(x') w2, W_gate, W_up) W_down

Every W is frozen and has its LoRA update. Autograd sees one node per layer, which keeps what can't
be had again by a few element-wise operations: `_Kept`. What stands between is made anew in the
backward pass. Frozen weights get no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from burnish.training.llama.attention import Segment, attention, attention_backward
from burnish.training.llama.linear import Pair, Stack, stack_backward, stack_forward
from burnish.training.llama.pointwise import (
    normed,
    rms_norm,
    rms_norm_backward,
    rotate,
    swiglu,
    swiglu_backward,
)


@dataclass(frozen=True, slots=True)
class Frozen:
    """The weights of a layer that do not learn.

    Attributes:
        qkv, o, gate_up, down: the linear layers, those of one input together.
        norm1, norm2: weights of the two RMSNorms [hidden].
        q_norm, k_norm: weights of the norms of every head [width], where the model has them.
        eps: of the norms.
        num_key_heads, width: of keys and values; queries have a multiple of those heads.
    """

    qkv: Stack
    o: Stack
    gate_up: Stack
    down: Stack
    norm1: Tensor
    norm2: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    eps: float
    num_key_heads: int
    width: int

    def stacks(self) -> tuple[Stack, Stack, Stack, Stack]:
        """The stacks in the order in which their updates are given to `layer`."""
        return self.qkv, self.o, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class Rotation:
    """Angles of a row's positions: cos and sin [T, 1, 1, width / 2] for keys.

    For queries they are multiplied by 1 / sqrt(width), so that scores need no scaling.
    """

    cos: Tensor
    sin: Tensor
    q_cos: Tensor
    q_sin: Tensor


def layer(  # noqa: PLR0913
    x: Tensor,
    frozen: Frozen,
    rotation: Rotation,
    segments: Sequence[Segment],
    updates: Sequence[Tensor],
    *,
    room: Sequence[Tensor] | None = None,
    recompute: bool = False,
) -> Tensor:
    """The layer's output [T, hidden] for its input [T, hidden].

    Args:
        x: hidden states of a row.
        frozen: the layer's weights.
        rotation: the angles of the row's positions.
        segments: which tokens see one another.
        updates: A, B, A, B … of the adapted layers, in the order of `Frozen.stacks`.
        room: where their gradients go, from `room_for`; else it is made.
        recompute: keep only x, and go forward once more before going back.
    """
    room = room_for(updates) if room is None else room
    apply: Any = _Layer.apply
    result: Tensor = apply(x, frozen, rotation, segments, room, recompute, *updates)
    return result


def room_for(updates: Sequence[Tensor]) -> list[Tensor]:
    """Tensors like the updates, in one block: for their gradients.

    Those outlive a layer's backward pass. Made one by one among the arrays that do not, they would
    cut what is freed into pieces that no array of the next layer fits in.
    """
    sizes = [update.numel() for update in updates]
    parts = updates[0].new_empty(sum(sizes)).split_with_sizes(sizes) if updates else ()
    return [part.view_as(update) for part, update in zip(parts, updates, strict=True)]


@dataclass(slots=True)
class _Kept:
    """What the backward pass wants of the forward pass.

    Attributes:
        r1, r2, r_q, r_k: factors of the norms.
        raw: q and k before norm and rotation, where heads are normed.
        q, k, v, p: attention's inputs and probabilities.
        o: its output [T, heads × width].
        x2: between attention and MLP [T, hidden].
        gate, up: [T, width of the MLP] each.
        us: the halves x Aᵀ of the updates of each stack.
    """

    r1: Tensor
    raw: tuple[Tensor, Tensor] | None
    r_q: Tensor | None
    r_k: Tensor | None
    q: Tensor
    k: Tensor
    v: Tensor
    p: list[Tensor | None]
    o: Tensor
    x2: Tensor
    r2: Tensor
    gate: Tensor
    up: Tensor
    us: tuple[Tensor | None, ...]

    def flat(self) -> tuple[list[Tensor | None], TreeSpec]:
        """All of its tensors in a row, and the structure that they are put back into."""
        return tree_flatten([getattr(self, field.name) for field in fields(self)])


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913
        ctx: Any,
        x: Tensor,
        frozen: Frozen,
        rotation: Rotation,
        segments: Sequence[Segment],
        room: Sequence[Tensor],
        recompute: bool,
        *updates: Tensor,
    ) -> Tensor:
        cast = [update.to(x.dtype) for update in updates]
        y, kept = _forward(x, frozen, rotation, segments, _pairs(frozen, cast))
        ctx.frozen, ctx.rotation, ctx.segments, ctx.room = frozen, rotation, segments, room
        leaves, ctx.structure = ([], None) if recompute else kept.flat()
        # All by autograd, whose hooks may move it elsewhere (offloading.py).
        ctx.save_for_backward(x, *cast, *leaves)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        ctx.maybe_clear_saved_tensors()  # freed as it is used, not when the graph is
        num_updates = len(ctx.needs_input_grad) - 6
        updates, leaves = saved[:num_updates], saved[num_updates:]
        pairs = _pairs(ctx.frozen, updates)
        if ctx.structure is None:
            _, kept = _forward(x, ctx.frozen, ctx.rotation, ctx.segments, pairs)
        else:
            kept = _Kept(*tree_unflatten(leaves, ctx.structure))
        del saved, leaves
        dx, gradients = _backward(
            grad_outputs[0], x, kept, ctx, pairs, wants_dx=bool(ctx.needs_input_grad[0])
        )
        own = [place.copy_(g) for place, g in zip(ctx.room, gradients, strict=True)]
        return dx, None, None, None, None, None, *own


def _pairs(frozen: Frozen, updates: Sequence[Tensor]) -> list[list[Pair]]:
    """The updates of each stack."""
    left = iter(updates)
    return [[(next(left), next(left)) for _ in stack.adapted] for stack in frozen.stacks()]


def _forward(
    x: Tensor,
    frozen: Frozen,
    rotation: Rotation,
    segments: Sequence[Segment],
    pairs: Sequence[list[Pair]],
) -> tuple[Tensor, _Kept]:
    """The y [T, hidden] of the formulas above, line by line, and what the way back wants."""
    h, r1 = rms_norm(x, frozen.norm1, frozen.eps)
    (q, k, v), u_qkv = stack_forward(h, frozen.qkv, pairs[0])
    raw = _by_heads(q, frozen), _by_heads(k, frozen)
    q, k, r_q, r_k = _turned(*raw, frozen, rotation)
    v = _by_heads(v, frozen).squeeze(2).transpose(0, 1).contiguous()
    o, p = attention(q, k, v, segments)
    o = o.transpose(0, 1).flatten(1)
    (x2,), u_o = stack_forward(o, frozen.o, pairs[1])
    x2 += x
    h, r2 = rms_norm(x2, frozen.norm2, frozen.eps)
    (gate, up), u_gate_up = stack_forward(h, frozen.gate_up, pairs[2])
    (y,), u_down = stack_forward(swiglu(gate, up)[0], frozen.down, pairs[3])
    y += x2
    us = (u_qkv, u_o, u_gate_up, u_down)
    raw_if_normed = None if r_q is None else raw
    return y, _Kept(r1, raw_if_normed, r_q, r_k, q, k, v, p, o, x2, r2, gate, up, us)


def _backward(
    dy: Tensor, x: Tensor, kept: _Kept, ctx: Any, pairs: Sequence[list[Pair]], *, wants_dx: bool
) -> tuple[Tensor | None, list[Tensor]]:
    """The gradients of x and of the updates A, B, A, B …; empties `kept` on its way.

    The formulas above from the last to the first, each by the derivative that stands with it; what
    is added passes its gradient on: dx' = dy + (back through the MLP), dx = dx' + (attention).
    """
    frozen: Frozen = ctx.frozen
    u_qkv, u_o, u_gate_up, u_down = kept.us
    a, s = swiglu(kept.gate, kept.up)
    da, g_down = stack_backward([dy], a, u_down, frozen.down, pairs[3])
    d_gate_up = swiglu_backward(da, kept.gate, kept.up, s)
    del a, s, da, kept.gate, kept.up
    h = normed(kept.x2, kept.r2, frozen.norm2)
    dh, g_gate_up = stack_backward(d_gate_up, h, u_gate_up, frozen.gate_up, pairs[2])
    del d_gate_up
    dx2 = rms_norm_backward(dh, kept.x2, kept.r2, frozen.norm2).add_(dy)
    do, g_o = stack_backward([dx2], kept.o, u_o, frozen.o, pairs[1])
    do = _by_heads(do, frozen).transpose(0, 1).contiguous()
    gradients = attention_backward(do, kept.q, kept.k, kept.v, kept.p, ctx.segments)
    del do, kept.p, kept.q, kept.k, kept.v
    dqkv = _queries_keys_values_backward(gradients, kept, frozen, ctx.rotation, x.dtype)
    h = normed(x, kept.r1, frozen.norm1)
    dh, g_qkv = stack_backward(dqkv, h, u_qkv, frozen.qkv, pairs[0], wants_dx=wants_dx)
    dx = rms_norm_backward(dh, x, kept.r1, frozen.norm1).add_(dx2) if wants_dx else None
    return dx, [g for pair in (*g_qkv, *g_o, *g_gate_up, *g_down) for g in pair]


def _turned(
    q: Tensor, k: Tensor, frozen: Frozen, rotation: Rotation
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The q and k of attention from what the layer projects, [T, key heads, group, width] each.

    Where heads are normed, also the factors r of queries and keys come back.
    """
    r_q = r_k = None
    if frozen.q_norm is not None and frozen.k_norm is not None:
        q, r_q = rms_norm(q, frozen.q_norm, frozen.eps)
        k, r_k = rms_norm(k, frozen.k_norm, frozen.eps)
    own_q, own_k = (x.new_empty(x.transpose(0, 1).shape) for x in (q, k))
    rotate(q, rotation.q_cos, rotation.q_sin, out=own_q.transpose(0, 1))
    rotate(k, rotation.cos, rotation.sin, out=own_k.transpose(0, 1))
    return own_q, own_k.squeeze(2), r_q, r_k


def _queries_keys_values_backward(
    gradients: tuple[Tensor, Tensor, Tensor],
    kept: _Kept,
    frozen: Frozen,
    rotation: Rotation,
    dtype: torch.dtype,
) -> list[Tensor]:
    """The gradients of what the layer projects, [T, heads × width] each, from attention's."""
    dq, dk, dv = (g.transpose(0, 1) for g in gradients)
    own_q, own_k, own_v = (
        torch.empty(g.shape, dtype=dtype, device=g.device) for g in (dq, dk[:, :, None], dv)
    )
    rotate(dq, rotation.q_cos, -rotation.q_sin, out=own_q)
    rotate(dk[:, :, None], rotation.cos, -rotation.sin, out=own_k)
    own_v.copy_(dv)
    if kept.raw is not None:
        q, k = kept.raw
        own_q = rms_norm_backward(own_q, q, _there(kept.r_q), _there(frozen.q_norm))
        own_k = rms_norm_backward(own_k, k, _there(kept.r_k), _there(frozen.k_norm))
    return [own.flatten(1) for own in (own_q, own_k, own_v)]


def _by_heads(x: Tensor, frozen: Frozen) -> Tensor:
    """[T, key heads, group, width] of [T, heads × width]; keys and values have a group of one."""
    return x.view(len(x), frozen.num_key_heads, -1, frozen.width)


def _there(x: Tensor | None) -> Tensor:
    assert x is not None
    return x
