"""A layer and its derivative: gradcheck in float64, and the same formula by autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.training.llama.attention import Segment
from burnish.training.llama.layer import Frozen, Rotation, layer, room_for
from burnish.training.llama.linear import Stack

HIDDEN, WIDTH, HEADS, KEY_HEADS, MLP = 6, 4, 2, 1, 5


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)


def frozen(*, head_norms=False, biases=False, updates=True):
    narrow = KEY_HEADS * WIDTH
    shapes = {  # rows of each layer, columns, factor of each update
        "qkv": ((HEADS * WIDTH, narrow, narrow), HIDDEN, (2.0, None, 0.5)),
        "o": ((HIDDEN,), HEADS * WIDTH, (1.0,)),
        "gate_up": ((MLP, MLP), HIDDEN, (1.5, 0.25)),
        "down": ((HIDDEN,), MLP, (0.7,)),
    }
    stacks = {}
    for number, (name, (outs, width, scales)) in enumerate(shapes.items()):
        seeds = [100 * number + place for place in range(len(outs))]
        weights = [normal(out, width, seed=s) for s, out in zip(seeds, outs, strict=True)]
        some = [normal(out, seed=s + 50) for s, out in zip(seeds, outs, strict=True)]
        stacks[name] = Stack(
            tuple(weights),
            tuple(some) if biases else (None,) * len(outs),
            scales if updates else (None,) * len(outs),
        )
    return Frozen(
        **stacks,
        norm1=normal(HIDDEN, seed=10),
        norm2=normal(HIDDEN, seed=11),
        q_norm=normal(WIDTH, seed=12) if head_norms else None,
        k_norm=normal(WIDTH, seed=13) if head_norms else None,
        eps=1e-5,
        num_key_heads=KEY_HEADS,
        width=WIDTH,
    )


def updates_of(weights):
    made = []
    for stack in weights.stacks():
        for place, _ in stack.adapted:
            out, width = stack.weights[place].shape
            made.append(normal(2, width, seed=30 + len(made)))
            made.append(normal(out, 2, seed=30 + len(made)))
    return [u.requires_grad_() for u in made]


def rotation(tokens):
    angles = normal(tokens, 1, 1, WIDTH // 2, seed=40) * 3
    scale = WIDTH**-0.5
    return Rotation(angles.cos(), angles.sin(), angles.cos() * scale, angles.sin() * scale)


def plain(x, weights, turn, segments, updates):
    """The formula of the module's docstring, for autograd."""
    pairs = iter(zip(updates[::2], updates[1::2], strict=True))

    def linear(x, stack):
        ys = []
        for weight, bias, scale in zip(stack.weights, stack.biases, stack.scales, strict=True):
            ys.append(torch.nn.functional.linear(x, weight, bias))
            if scale is not None:
                a, b = next(pairs)
                ys[-1] = ys[-1] + scale * x @ a.T @ b.T
        return ys

    def norm(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + weights.eps).sqrt() * weight

    def turned(x):
        a, b = x.chunk(2, -1)
        cos, sin = turn.cos[:, 0], turn.sin[:, 0]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    projected = linear(norm(x, weights.norm1), weights.qkv)
    q, k, v = (part.view(len(x), -1, WIDTH) for part in projected)
    if weights.q_norm is not None:
        q, k = norm(q, weights.q_norm), norm(k, weights.k_norm)
    q, k = turned(q) / WIDTH**0.5, turned(k).expand(-1, HEADS, -1)
    sees = torch.zeros(len(x), len(x), dtype=torch.bool)
    for s in segments:
        sees[s.start : s.stop, s.start : s.stop] = torch.ones(len(s), len(s)).tril().bool()
        sees[s.start : s.stop, s.prefix_start : s.prefix_stop] = True
    p = torch.einsum("qhd,khd->hqk", q, k).masked_fill(~sees, -torch.inf).softmax(-1)
    o = torch.einsum("hqk,khd->qhd", p, v.expand(-1, HEADS, -1)).flatten(1)
    x = x + linear(o, weights.o)[0]
    gate, up = linear(norm(x, weights.norm2), weights.gate_up)
    return x + linear(torch.nn.functional.silu(gate) * up, weights.down)[0]


SEGMENTS = (Segment(0, 3), Segment(3, 5, 0, 3), Segment(5, 8, 0, 3), Segment(8, 9))
KINDS = [{}, {"head_norms": True}, {"biases": True}, {"updates": False}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_output_and_gradients_are_those_of_the_formula(kind):
    weights = frozen(**kind)
    x, updates = normal(9, HIDDEN, seed=50).requires_grad_(), updates_of(weights)
    expected = plain(x, weights, rotation(9), SEGMENTS, updates)
    found = layer(x, weights, rotation(9), SEGMENTS, updates)
    torch.testing.assert_close(found, expected)
    dy = normal(9, HIDDEN, seed=51)
    theirs = torch.autograd.grad(expected, [x, *updates], dy)
    ours = torch.autograd.grad(found, [x, *updates], dy)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("head_norms", [False, True])
def test_the_derivative_passes_gradcheck(head_norms, recompute):
    weights = frozen(head_norms=head_norms)
    segments = (Segment(0, 2), Segment(2, 4, 0, 2), Segment(4, 5))

    def function(x, *updates):
        return layer(x, weights, rotation(5), segments, updates, recompute=recompute)

    x = normal(5, HIDDEN, seed=50).requires_grad_()
    assert torch.autograd.gradcheck(function, (x, *updates_of(weights)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_recomputed_activations_give_identical_gradients(dtype):
    def cast(stack):
        return replace(stack, weights=tuple(w.to(dtype) for w in stack.weights))

    w = frozen(head_norms=True)
    weights = Frozen(
        *map(cast, w.stacks()),
        *(n.to(dtype) for n in (w.norm1, w.norm2, w.q_norm, w.k_norm)),
        eps=w.eps,
        num_key_heads=KEY_HEADS,
        width=WIDTH,
    )
    gradients = []
    for recompute in (False, True):
        x = normal(9, HIDDEN, seed=50).to(dtype).requires_grad_()
        updates = updates_of(w)
        y = layer(x, weights, rotation(9), SEGMENTS, updates, recompute=recompute)
        gradients.append(torch.autograd.grad(y.sum(), [x, *updates]))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_second_way_back_over_the_same_graph_gives_the_same():
    weights = frozen()
    updates = updates_of(weights)
    y = layer(normal(9, HIDDEN, seed=50), weights, rotation(9), SEGMENTS, updates)
    first = torch.autograd.grad(y.sum(), updates, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(y.sum(), updates), strict=True):
        assert torch.equal(one, other)


def test_the_input_stays_as_it_was_and_needs_no_gradient():
    weights = frozen()
    x = normal(9, HIDDEN, seed=50)
    before = x.clone()
    y = layer(x, weights, rotation(9), SEGMENTS, updates_of(weights))
    y.sum().backward()
    assert torch.equal(x, before)
    assert x.grad is None


def test_gradients_come_in_the_type_of_the_updates():
    w = frozen()
    half = [replace(s, weights=tuple(x.bfloat16() for x in s.weights)) for s in w.stacks()]
    norms = (w.norm1.bfloat16(), w.norm2.bfloat16(), None, None)
    shape = {"eps": 1e-5, "num_key_heads": KEY_HEADS, "width": WIDTH}
    updates = [u.detach().float().requires_grad_() for u in updates_of(w)]
    x = normal(9, HIDDEN, seed=50).bfloat16()
    y = layer(x, Frozen(*half, *norms, **shape), rotation(9), SEGMENTS, updates)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert {u.grad.dtype for u in updates} == {torch.float32}


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_go_where_room_was_made_for_them(recompute):
    weights = frozen()
    updates = updates_of(weights)
    x, turned = normal(9, HIDDEN, seed=50), rotation(9)
    expected = torch.autograd.grad(layer(x, weights, turned, SEGMENTS, updates).sum(), updates)
    room = room_for(updates)
    y = layer(x, weights, turned, SEGMENTS, updates, room=room, recompute=recompute)
    found = torch.autograd.grad(y.sum(), updates)
    for place, gradient, other in zip(room, found, expected, strict=True):
        assert gradient.data_ptr() == place.data_ptr()
        assert torch.equal(gradient, other)


def test_room_is_one_block_in_the_shapes_and_types_of_the_updates():
    first, second = room_for([torch.zeros(2, 3), torch.zeros(4, 1)])
    assert (first.shape, second.shape) == ((2, 3), (4, 1))
    assert second.data_ptr() == first.data_ptr() + 6 * 4
    assert room_for([]) == []
