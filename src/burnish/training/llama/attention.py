"""Causal attention of every record over itself and its prefix, by blocked matrix products.

A row holds records one behind the other; a query sees the keys of its own record up to itself, and
all keys of the prefix that its record shares with others of the row. Queries are taken in blocks,
so that of the square of scores only what the causal mask keeps is computed (up to half a block at
the diagonal). The query heads of one key head, its group, are the rows of one product: keys and
values are never repeated.

Shapes: q and o [key heads, T, group, width], k and v [key heads, T, width]. q comes in already
multiplied by the scale 1 / sqrt(width).

Source: Vaswani et al. 2017, "Attention Is All You Need"; Ainslie et al. 2023, "GQA".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from burnish.training.llama.pointwise import wide

BLOCK = 64
"""Queries in a block; twice as many in types of two bytes, whose products are that much faster than
what stands around them."""

ROUND, WIDE_ROUND = 16, 4
"""Rows, and blocks where the row goes on behind them, have a multiple of so many tokens: the first
in types of two bytes, for which oneDNN keeps a program and its description for every shape, 0.7 MB
in bfloat16; the second in others, whose products are slow at odd numbers. What is too many in a
block is of the next record and counts for nothing."""

MOST_KEPT = 6
"""So many bytes of a row's probabilities are kept for each number of its queries, in types of two
bytes twice as many. Those of further blocks are computed again in the backward pass: kept, they
would grow with the square of a record's length."""


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
    """Queries [first, last) of the row; the segment's own are those before `stop`.

    They see, up to themselves, `num_keys` keys: the segment's prefix, and from its start to `last`.
    """

    first: int
    stop: int
    last: int
    num_keys: int


def rounding(dtype: torch.dtype) -> int:
    """What numbers of tokens are a multiple of, in a type: see `ROUND`."""
    return ROUND if dtype.itemsize <= 2 else WIDE_ROUND


def _blocks(segment: Segment, num_tokens: int, dtype: torch.dtype) -> Iterator[_Block]:
    """The blocks of a segment's queries in a row of so many tokens, from its start."""
    size = 2 * BLOCK if dtype.itemsize <= 2 else BLOCK
    multiple = rounding(dtype)
    for first in range(segment.start, segment.stop, size):
        stop = min(segment.stop, first + size)
        last = min(first + -(-(stop - first) // multiple) * multiple, num_tokens)
        yield _Block(first, stop, last, segment.prefix + last - segment.start)


def num_scores(segments: Sequence[Segment], num_tokens: int, dtype: torch.dtype) -> int:
    """How many pairs of a query and a key of a row are multiplied, of each head."""
    blocks = (block for segment in segments for block in _blocks(segment, num_tokens, dtype))
    return sum((block.last - block.first) * block.num_keys for block in blocks)


def num_products(longest: int, lanes: int) -> int:
    """How many shapes of products are in use while rows of so many tokens (or 1,024) are computed.

    Three for every block that differs, which serve the way forward and the way back: whole blocks,
    of which a row has at most one for each of their length, and the last ones of records, which
    differ only where the records' lengths in `ROUND` do: of n records that do, the row has at least
    ROUND n² / 2 tokens. Besides those of the linear layers and their updates; and all of it for
    every lane, which may have a record as long as a row. Not fewer for shorter rows: a trial of a
    sweep may have longer ones in the same process.
    """
    tokens = max(longest, 1024)
    differing = tokens // (2 * BLOCK) + math.isqrt(2 * tokens // ROUND) + 2
    return lanes * (3 * differing + 32)


def attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Sequence[Segment]
) -> tuple[Tensor, list[Tensor | None]]:
    """The output o = softmax(q kᵀ + mask) v, shaped as q, and each block's probabilities.

    Segments stand as in the row: what a block writes behind its end is written over by the next.

    The probabilities, [key heads, block × group, keys] each, are what the backward pass wants;
    None where it shall compute them again.
    """
    o = q.new_empty(q.shape)
    kept: list[Tensor | None] = []
    room = MOST_KEPT * q.numel() * (2 if q.dtype.itemsize <= 2 else 1)
    for segment in segments:
        blocks = list(_blocks(segment, q.shape[1], q.dtype))
        keys, values = (_seen(x, segment, blocks[-1].last) for x in (k, v))
        for block in blocks:
            p = _probabilities(_rows(q, block), keys, block)
            room -= p.nbytes
            kept.append(p if room >= 0 else None)
            torch.bmm(p, values[:, : block.num_keys], out=_rows(o, block))
    return o, kept


def attention_backward(
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kept: Sequence[Tensor | None],
    segments: Sequence[Segment],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients dq, dk and dv, the last two in the type that sums are made in.

    dp = do vᵀ,   ds = p (dp - rowsum(dp p)),   dq = ds k,   dk = dsᵀ q,   dv = pᵀ do
    """
    dq = q.new_empty(q.shape)
    dk, dv = torch.empty_like(wide(k)), torch.empty_like(wide(v))
    remaining = iter(kept)
    for segment in segments:
        blocks = list(_blocks(segment, q.shape[1], q.dtype))
        keys, values = (_seen(x, segment, blocks[-1].last) for x in (k, v))
        probabilities = [next(remaining) for _ in blocks]
        # From the end: the last block sees all keys, and the first sums for them are its own.
        for block, p in zip(reversed(blocks), reversed(probabilities), strict=True):
            queries, out = _rows(q, block), _rows(do, block).contiguous()  # for two products
            if p is None:
                p = _probabilities(queries, keys, block)
            dp = torch.bmm(out, values[:, : block.num_keys].transpose(1, 2))
            ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
            torch.bmm(ds, keys[:, : block.num_keys], out=_rows(dq, block))
            is_first = block is blocks[-1]
            _add_seen(dk, torch.bmm(ds.transpose(1, 2), queries), segment, block, is_first=is_first)
            _add_seen(dv, torch.bmm(p.transpose(1, 2), out), segment, block, is_first=is_first)
    return dq, dk, dv


def _probabilities(queries: Tensor, keys: Tensor, block: _Block) -> Tensor:
    """A block's softmax(q kᵀ + mask) [key heads, block × group, keys]; 0 behind its segment."""
    p = torch.bmm(queries, keys[:, : block.num_keys].transpose(1, 2))
    _mask_future(p, block)
    torch.softmax(p, -1, out=p)
    if block.stop < block.last:  # queries of another record
        group = p.shape[1] // (block.last - block.first)
        p[:, (block.stop - block.first) * group :] = 0
    return p


def _seen(x: Tensor, segment: Segment, last: int) -> Tensor:
    """The keys or values of a segment's blocks, of which the last ends before token `last`.

    [key heads, prefix + own and behind, width], in an array of their own: as views they would be
    copied before every product in bfloat16.
    """
    own = x[:, segment.start : last]
    if not segment.prefix:
        return own.contiguous()
    return torch.cat([x[:, segment.prefix_start : segment.prefix_stop], own], 1)


def _add_seen(
    total: Tensor, part: Tensor, segment: Segment, block: _Block, *, is_first: bool
) -> None:
    """Adds what a block gives to the keys that it sees: the prefix's, then its own record's.

    To the record's keys nothing was added before its first one; what that writes behind the record
    is zeros, in whose place the next record writes.
    """
    n = segment.prefix
    if n:
        total[:, segment.prefix_start : segment.prefix_stop] += part[:, :n]
    own = total[:, segment.start : block.last]
    if is_first:
        own.copy_(part[:, n:])
    else:
        own += part[:, n:]


def _rows(x: Tensor, block: _Block) -> Tensor:
    """A block's queries of all heads, a view [key heads, block × group, width]."""
    return x[:, block.first : block.last].flatten(1, 2)


def _mask_future(scores: Tensor, block: _Block) -> None:
    """Adds the mask to scores [key heads, block × group, keys], of which a block's own are last."""
    size = block.last - block.first
    square = scores.view(scores.shape[0], size, -1, scores.shape[2])[..., -size:]
    square += _future(size, scores.dtype, scores.device)


@lru_cache(maxsize=256)
def _future(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What scores [key heads, size, group, size] are added: minus infinity at later keys."""
    above = torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu_(1)
    return above[None, :, None, :]


def forget_masks() -> None:
    """Empties the cache of masks, in which tensors of a trial without data must not stay."""
    _future.cache_clear()
