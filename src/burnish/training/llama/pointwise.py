"""RMSNorm, rotary positions and SwiGLU: each with the derivative that goes back through it.

Shapes: T tokens of all records of a row one behind the other. Statistics are in float32 (float64
where the input is), results in the type of the input, as in the models' own code.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """The tensor in the type that sums are made in: float32, or float64 if it is in that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normed y = w x r [..., width], and r = 1 / sqrt(mean(x²) + eps) [..., 1].

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
    """
    high = wide(x)
    r = torch.rsqrt(high.square().mean(-1, keepdim=True).add_(eps))
    return (high * r).to(x.dtype).mul_(weight), r


def rms_norm_backward(dy: Tensor, x: Tensor, r: Tensor, weight: Tensor) -> Tensor:
    """The gradient dx = r (g - n mean(g n)) with n = x r and g = w dy; shapes as in `rms_norm`."""
    n = wide(x) * r
    g = wide(dy) * weight
    mean = (g * n).mean(-1, keepdim=True)
    return g.sub_(n.mul_(mean)).mul_(r).to(x.dtype)


def rotate_(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pair (x_i, x_{i + width/2}) of every head by its position's angle, in place.

    y_a = x_a cos - x_b sin, y_b = x_b cos + x_a sin. With -sin this is the derivative, for a
    rotation's transpose turns back.

    Args:
        x: [T, heads, width].
        cos: [T, 1, width / 2], in the type that sums are made in.
        sin: as `cos`.

    Source: Su et al. 2021, "RoFormer"; halves as in Hugging Face's Llama.
    """
    a, b = x.chunk(2, -1)
    high_a, high_b = wide(a), wide(b)
    turned = (high_a * cos).sub_(high_b * sin)
    b.copy_((high_b * cos).add_(high_a * sin))
    a.copy_(turned)
    return x


def swiglu(gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """The product silu(gate) up [T, width] of [T, 2 width], and silu(gate), for the way back.

    Source: Shazeer 2020, "GLU Variants Improve Transformer".
    """
    gate, up = gate_up.chunk(2, -1)
    s = torch.nn.functional.silu(gate)
    return s * up, s


def swiglu_backward(da: Tensor, gate_up: Tensor, s: Tensor) -> Tensor:
    """d(gate, up) [T, 2 width]: dgate = da up silu'(gate), dup = da silu(gate)."""
    gate, up = gate_up.chunk(2, -1)
    width = da.shape[-1]
    d = torch.empty_like(gate_up)
    d[:, :width] = torch.ops.aten.silu_backward(da * up, gate)
    torch.mul(da, s, out=d[:, width:])
    return d
