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
    norm = torch.linalg.vector_norm(high, dim=-1, keepdim=True)
    r = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return _times(x, high, r).to(x.dtype).mul_(weight), r


def normed(x: Tensor, r: Tensor, weight: Tensor) -> Tensor:
    """The y of `rms_norm` once more, from its r."""
    return _times(x, wide(x), r).to(x.dtype).mul_(weight)


def rms_norm_backward(dy: Tensor, x: Tensor, r: Tensor, weight: Tensor) -> Tensor:
    """The gradient dx = r (g - n mean(g n)) with n = x r and g = w dy; shapes as in `rms_norm`."""
    n = _times(x, wide(x), r)
    g = _times(dy, wide(dy), weight)
    mean = (g * n).mean(-1, keepdim=True)
    return g.addcmul_(n, mean, value=-1).mul_(r).to(x.dtype)


def _times(x: Tensor, high: Tensor, factor: Tensor) -> Tensor:
    """The product of `high`, which is `wide(x)`, and a factor: in its place where that is not x."""
    return high * factor if high is x else high.mul_(factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor) -> None:
    """Turns the pair (x_i, x_{i + width/2}) of every head by its position's angle.

    y_a = x_a cos - x_b sin, y_b = x_b cos + x_a sin. With -sin this is the derivative, for a
    rotation's transpose turns back.

    Args:
        x: [T, …, width].
        cos: [T, …, width / 2], in the type that sums are made in; shapes are broadcast.
        sin: as `cos`.
        out: where the result goes, shaped as x; may be x.

    Source: Su et al. 2021, "RoFormer"; halves as in Hugging Face's Llama.
    """
    a, b = map(wide, x.chunk(2, -1))
    out_a, out_b = out.chunk(2, -1)
    turned = (a * cos).addcmul_(b, sin, value=-1)
    out_b.copy_((b * cos).addcmul_(a, sin))
    out_a.copy_(turned)


def swiglu(gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The product silu(gate) up [T, width], and silu(gate), for the way back.

    Source: Shazeer 2020, "GLU Variants Improve Transformer".
    """
    s = torch.nn.functional.silu(gate)
    return s * up, s


def swiglu_backward(da: Tensor, gate: Tensor, up: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients dgate = da up silu'(gate) and dup = da silu(gate) [T, width].

    The second stands where s = silu(gate) stood.
    """
    d_gate = da * up
    torch.ops.aten.silu_backward.grad_input(d_gate, gate, grad_input=d_gate)
    return d_gate, s.mul_(da)
