"""Causal attention of every record over itself and its prefix, by blocked matrix products.

A row holds records one behind the other; a query sees the keys of its own record up to itself, and
all keys of the prefix that its record shares with others of the row. Queries are taken in blocks of
64, so that of the square of scores only what the causal mask keeps is computed (up to half a block
at the diagonal). The query heads of one key head are stacked into the rows of one product: keys and
values are never repeated.

Shapes: q [T, heads, width], k and v [T, key heads, width]. q comes in already multiplied by the
scale 1 / sqrt(width).

Source: Vaswani et al. 2017, "Attention Is All You Need"; Ainslie et al. 2023, "GQA".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from burnish.training.llama.pointwise import wide

BLOCK = 64
"""Queries in a block."""

MOST_KEPT = 256
"""Where a block sees more keys, its probabilities are computed again in the backward pass: kept,
they would grow with the square of a record's length."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A record's own tokens [start, stop) in a row, and the shared tokens that stand before them.

    Those are [prefix_start, prefix_stop) of the row; none where both are equal.
    """

    start: int
    stop: int
    prefix_start: int = 0
    prefix_stop: int = 0

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def prefix(self) -> int:
        """How many tokens of a shared prefix stand before it."""
        return self.prefix_stop - self.prefix_start


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries [first, last) of a segment; they see the segment's first `num_keys` keys."""

    first: int
    last: int
    num_keys: int


def _blocks(segment: Segment) -> Iterator[_Block]:
    for offset in range(0, len(segment), BLOCK):
        end = min(len(segment), offset + BLOCK)
        yield _Block(segment.start + offset, segment.start + end, segment.prefix + end)


def attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Sequence[Segment]
) -> tuple[Tensor, list[Tensor | None]]:
    """The output o = softmax(q kᵀ + mask) v [T, heads, width], and each block's probabilities.

    The probabilities, [key heads, block × group, keys] each, are what the backward pass wants;
    None where it shall compute them again.
    """
    o = torch.empty_like(q, memory_format=torch.contiguous_format)
    kept: list[Tensor | None] = []
    for segment in segments:
        keys, values = _seen(k, segment), _seen(v, segment)  # [key heads, seen, width]
        for block in _blocks(segment):
            queries = _grouped(q[block.first : block.last], k.shape[1])
            p = _probabilities(queries, keys, block)
            kept.append(p if block.num_keys <= MOST_KEPT else None)
            o[block.first : block.last] = _ungrouped(
                torch.bmm(p, values[:, : block.num_keys]), block
            )
    return o, kept


def attention_backward(
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kept: Sequence[Tensor | None],
    segments: Sequence[Segment],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients dq, dk and dv.

    dp = do vᵀ,   ds = p (dp - rowsum(dp p)),   dq = ds k,   dk = dsᵀ q,   dv = pᵀ do
    """
    dq = torch.empty_like(q, memory_format=torch.contiguous_format)
    # [key heads, T, width], in the type that sums are made in
    dk = wide(k.new_zeros(k.shape[1], k.shape[0], k.shape[2]))
    dv = torch.zeros_like(dk)
    remaining = iter(kept)
    for segment in segments:
        keys, values = _seen(k, segment), _seen(v, segment)
        for block in _blocks(segment):
            queries = _grouped(q[block.first : block.last], k.shape[1])
            p = next(remaining)
            if p is None:
                p = _probabilities(queries, keys, block)
            out = _grouped(do[block.first : block.last], k.shape[1])
            dp = torch.bmm(out, values[:, : block.num_keys].transpose(1, 2))
            ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
            dq[block.first : block.last] = _ungrouped(
                torch.bmm(ds, keys[:, : block.num_keys]), block
            )
            _add_seen(dk, torch.bmm(ds.transpose(1, 2), queries), segment, block)
            _add_seen(dv, torch.bmm(p.transpose(1, 2), out), segment, block)
    return dq, dk.transpose(0, 1).to(k.dtype), dv.transpose(0, 1).to(v.dtype)


def _probabilities(queries: Tensor, keys: Tensor, block: _Block) -> Tensor:
    scores = torch.bmm(queries, keys[:, : block.num_keys].transpose(1, 2))
    _mask_future(scores, block)
    return torch.softmax(scores, -1)


def _seen(x: Tensor, segment: Segment) -> Tensor:
    """The keys or values that a segment sees, [key heads, prefix + own, width]."""
    own = x[segment.start : segment.stop]
    if segment.prefix:
        own = torch.cat([x[segment.prefix_start : segment.prefix_stop], own])
    return own.transpose(0, 1).contiguous()


def _add_seen(total: Tensor, part: Tensor, segment: Segment, block: _Block) -> None:
    """Adds what a block gives to the keys that it sees: the prefix's, then its own record's."""
    n = segment.prefix
    if n:
        total[:, segment.prefix_start : segment.prefix_stop] += part[:, :n]
    total[:, segment.start : block.last] += part[:, n:]


def _grouped(x: Tensor, num_key_heads: int) -> Tensor:
    """[block, heads, width] -> [key heads, block × group, width]."""
    block, heads, width = x.shape
    x = x.reshape(block, num_key_heads, heads // num_key_heads, width)
    return x.transpose(0, 1).reshape(num_key_heads, -1, width)


def _ungrouped(x: Tensor, block: _Block) -> Tensor:
    """[key heads, block × group, width] -> [block, heads, width]."""
    size = block.last - block.first
    x = x.view(x.shape[0], size, -1, x.shape[2])
    return x.transpose(0, 1).reshape(size, -1, x.shape[3])


def _mask_future(scores: Tensor, block: _Block) -> None:
    size = block.last - block.first
    square = scores.view(scores.shape[0], size, -1, scores.shape[2])[..., -size:]
    square.masked_fill_(_future(size, scores.device)[None, :, None, :], -torch.inf)


@lru_cache(maxsize=256)
def _future(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).triu_(1)


def forget_masks() -> None:
    """Empties the cache of masks, in which tensors of a trial without data must not stay."""
    _future.cache_clear()
