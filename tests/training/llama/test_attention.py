"""Blocked attention against a masked softmax over the whole square, in float64."""

from __future__ import annotations

import pytest
import torch

from burnish.training.llama import attention as module
from burnish.training.llama.attention import (
    Segment,
    attention,
    attention_backward,
    num_products,
    num_scores,
)


def alone(*lengths):
    """Segments of records one behind the other."""
    segments, begin = [], 0
    for length in lengths:
        segments.append(Segment(begin, begin + length))
        begin += length
    return segments


def after_prefix(prefix, *lengths):
    """A prefix, and records that share it."""
    segments, begin = [Segment(0, prefix)], prefix
    for length in lengths:
        segments.append(Segment(begin, begin + length, 0, prefix))
        begin += length
    return segments


def tensors(segments, heads, key_heads, width=6):
    generator = torch.Generator().manual_seed(0)
    tokens = segments[-1].stop
    shapes = [(tokens, heads, width), (tokens, key_heads, width), (tokens, key_heads, width)]
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def by_heads(x, key_heads, group=None):
    """[T, heads, width] in the order that attention wants: key heads first."""
    x = x.detach().transpose(0, 1)
    x = x.unflatten(0, (key_heads, group)).transpose(1, 2) if group else x
    return x.contiguous()


def arranged(segments, heads, key_heads, width=6):
    q, k, v = tensors(segments, heads, key_heads, width)
    group = heads // key_heads
    return by_heads(q, key_heads, group), by_heads(k, key_heads), by_heads(v, key_heads)


def sees(segments):
    """[T, T], which keys each query sees."""
    tokens = segments[-1].stop
    mask = torch.zeros(tokens, tokens, dtype=torch.bool)
    for s in segments:
        mask[s.start : s.stop, s.start : s.stop] = torch.ones(len(s), len(s)).tril().bool()
        mask[s.start : s.stop, s.prefix_start : s.prefix_stop] = True
    return mask


def naive(q, k, v, segments):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k).masked_fill(~sees(segments), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


CASES = [
    alone(1),
    alone(63),
    alone(64),
    alone(65),
    alone(130),
    alone(1, 65, 64, 3),
    alone(300),
    after_prefix(10, 5, 70),
    after_prefix(64, 1, 64),
    after_prefix(200, 100, 2),
    [*alone(7), Segment(7, 17), Segment(17, 20, 7, 17), Segment(20, 90, 7, 17)],
]


@pytest.mark.parametrize("heads, key_heads", [(2, 2), (6, 2), (4, 1)])
@pytest.mark.parametrize("segments", CASES, ids=lambda s: "-".join(str(len(x)) for x in s))
def test_output_and_gradients_are_those_of_the_masked_softmax(segments, heads, key_heads):
    q, k, v = (x.requires_grad_() for x in tensors(segments, heads, key_heads))
    expected = naive(q, k, v, segments)
    do = torch.randn(q.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    gradients = torch.autograd.grad(expected, [q, k, v], do)
    group = heads // key_heads
    wide, narrow = (key_heads, group), (key_heads,)
    arguments = by_heads(q, *wide), by_heads(k, *narrow), by_heads(v, *narrow)
    o, kept = attention(*arguments, segments)
    torch.testing.assert_close(o, by_heads(expected, *wide), rtol=1e-10, atol=1e-12)
    found = attention_backward(by_heads(do, *wide), *arguments, kept, segments)
    for one, other, order in zip(found, gradients, (wide, narrow, narrow), strict=True):
        torch.testing.assert_close(one, by_heads(other, *order), rtol=1e-10, atol=1e-11)


def test_a_token_without_others_takes_its_own_value():
    q, k, v = arranged(alone(1, 1), 2, 2)
    o, _ = attention(q, k, v, alone(1, 1))
    torch.testing.assert_close(o[:, :, 0], v)


def test_equal_keys_give_the_mean_of_the_values_seen():
    segments = alone(2, 3)
    q, k, _ = arranged(segments, 1, 1, width=1)
    v = torch.tensor([1.0, 3.0, 10.0, 20.0, 60.0], dtype=torch.float64).view(1, 5, 1)
    o, _ = attention(q, torch.zeros_like(k), v, segments)
    assert o.flatten().tolist() == pytest.approx([1, 2, 10, 15, 30])


@pytest.mark.parametrize("most, num_kept", [(54, 1), (55, 2), (240, 4), (241, 5)])
def test_probabilities_are_kept_as_far_as_there_is_room(most, num_kept, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", most)
    q, k, v = arranged(alone(300), 2, 1)  # 300 queries of 2 heads of width 6: 3,600 numbers
    _, kept = attention(q, k, v, alone(300))
    # Blocks of 64 queries, the last of 44, end at 64, 128, 192, 256 and 300 keys. With 8 bytes for
    # each, they and all before them take 65,536, 196,608, 393,216, 655,360 and 866,560 bytes.
    assert [p is not None for p in kept] == [True] * num_kept + [False] * (5 - num_kept)
    assert kept[0].shape == (1, 64 * 2, 64)


def test_kept_and_recomputed_probabilities_give_the_same_gradients(monkeypatch):
    segments = after_prefix(70, 65, 3)
    q, k, v = arranged(segments, 4, 2)
    do = torch.ones_like(q)
    found = []
    for most in (0, 100_000):
        monkeypatch.setattr(module, "MOST_KEPT", most)
        _, kept = attention(q, k, v, segments)
        assert all((p is None) == (most == 0) for p in kept)
        found.append(attention_backward(do, q, k, v, kept, segments))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_views_of_one_projection_are_taken_as_they_are():
    segments = alone(66)
    qkv = torch.randn(66, 8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, k, v = qkv[:, :4], qkv[:, 4:6], qkv[:, 6:]
    grouped = q.unflatten(1, (2, 2)).transpose(0, 1)
    o, kept = attention(grouped, k.transpose(0, 1), v.transpose(0, 1), segments)
    torch.testing.assert_close(o.transpose(0, 1).flatten(1, 2), naive(q, k, v, segments))
    assert o.is_contiguous()
    arguments = by_heads(q, 2, 2), by_heads(k, 2), by_heads(v, 2)
    expected = attention_backward(o, *arguments, kept, segments)
    views = grouped, k.transpose(0, 1), v.transpose(0, 1)
    found = attention_backward(o, *views, kept, segments)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.fixture
def _all_is_kept(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 100_000)


@pytest.mark.usefixtures("_all_is_kept")
def test_blocks_take_a_multiple_of_queries_where_the_row_goes_on():
    q, k, v = arranged(alone(70, 20), 2, 1)
    _, kept = attention(q, k, v, alone(70, 20))
    # 64 and 6 of the first record, whose last block takes 2 more; 20 of the second, then the end.
    assert [p.shape for p in kept] == [(1, 128, 64), (1, 16, 72), (1, 40, 20)]
    assert not kept[1][:, 12:].any()
    assert not kept[1][:, :, 70:].any()


def test_the_pairs_that_are_multiplied_are_those_of_the_blocks():
    # 64 queries by 64 keys, 8 by 72, and 20 by 20; in one block 80 by 80.
    assert num_scores(alone(70, 20), 90, torch.float32) == 64 * 64 + 8 * 72 + 20 * 20
    assert num_scores(alone(70, 20), 90, torch.bfloat16) == 80 * 80 + 20 * 20
    assert num_scores(after_prefix(10, 20), 30, torch.float32) == 12 * 12 + 20 * 30


@pytest.mark.usefixtures("_all_is_kept")
def test_blocks_of_two_bytes_a_number_are_twice_as_long():
    q, k, v = (x.bfloat16() for x in arranged(alone(130), 2, 1))
    _, kept = attention(q, k, v, alone(130))
    assert [p.shape for p in kept] == [(1, 256, 128), (1, 4, 130)]


def test_what_comes_behind_a_record_does_not_change_it():
    segments = alone(70, 20)
    q, k, v = arranged(segments, 2, 1)
    do = torch.ones_like(q)
    before = attention(q, k, v, segments)
    gradients = attention_backward(do, q, k, v, before[1], segments)
    for x in (q, k, v, do):
        x[:, 70:] *= 3
    after = attention(q, k, v, segments)
    assert torch.equal(before[0][:, :70], after[0][:, :70])
    found = attention_backward(do, q, k, v, after[1], segments)
    for one, other in zip(gradients, found, strict=True):
        assert torch.equal(one[:, :70], other[:, :70])


@pytest.mark.usefixtures("_all_is_kept")
def test_all_shapes_of_rows_with_many_lengths_are_few():
    """oneDNN makes a program for each."""
    shapes = set()
    for length in range(1, 200):
        q, k, v = (x.bfloat16() for x in arranged(alone(length, 64), 1, 1, width=1))
        shapes |= {p.shape for p in attention(q, k, v, alone(length, 64))[1]}
    assert len(shapes) <= 200 / module.ROUND + 2


def test_products_have_as_many_shapes_as_blocks_can_differ():
    # 8 whole blocks of 128, and 11 last ones: records of 16, 32 … 176 tokens are 1,056.
    assert num_products(1024, 1) == 3 * (8 + 11 + 2) + 32
    assert num_products(10, 1) == num_products(1024, 1)
    assert num_products(1024, 2) == 2 * num_products(1024, 1)
    # 32 whole blocks, and 16 + … + 352 are 4,048 of 4,096 tokens.
    assert num_products(4096, 1) == 3 * (32 + 22 + 2) + 32


def test_scores_of_hundreds_stay_finite():
    segments = alone(70)
    q, k, v = (100 * x for x in arranged(segments, 2, 2))
    o, kept = attention(q.float(), k.float(), v.float(), segments)
    dq, dk, dv = attention_backward(o, q.float(), k.float(), v.float(), kept, segments)
    assert all(torch.isfinite(x).all() for x in (o, dq, dk, dv))
