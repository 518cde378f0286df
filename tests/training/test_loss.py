"""The chunked cross entropy against torch's own, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from burnish.training.loss import (
    CHUNK,
    COLUMNS,
    PLAIN,
    LossTerms,
    _loss_and_gradient,
    cross_entropy_sum,
)

VOCAB, HIDDEN = 23, 7


def problem(count, dtype=torch.float64, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, HIDDEN, generator=generator, dtype=torch.float64) * scale
    head = torch.randn(VOCAB, HIDDEN, generator=generator, dtype=torch.float64)
    bias = torch.randn(VOCAB, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, VOCAB, (count,), generator=generator)
    return hidden.to(dtype).requires_grad_(), head.to(dtype), bias.to(dtype), targets


def plain(hidden, head, bias, targets, terms=PLAIN):
    logits = hidden @ head.T + (0 if bias is None else bias)
    loss = cross_entropy(logits, targets, reduction="sum", label_smoothing=terms.label_smoothing)
    return loss + terms.z_loss * logits.logsumexp(-1).square().sum()


def both(hidden, head, bias, targets, terms=PLAIN):
    """Loss and gradient by burnish and by torch, each times 0.3 on its way back."""
    results = []
    for loss in (
        cross_entropy_sum(hidden, head, targets, bias=bias, terms=terms),
        plain(hidden, head, bias, targets, terms),
    ):
        results.append((loss.detach(), *torch.autograd.grad(0.3 * loss, hidden)))
    return results


def test_two_equal_logits_cost_the_log_of_two():
    hidden = torch.zeros(3, 4, requires_grad=True)
    loss = cross_entropy_sum(hidden, torch.eye(2, 4), torch.tensor([0, 1, 1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(3 * math.log(2))
    # p - onehot is (-1/2, 1/2) for the first and (1/2, -1/2) for the others.
    assert hidden.grad.tolist() == [[-0.5, 0.5, 0, 0], [0.5, -0.5, 0, 0], [0.5, -0.5, 0, 0]]


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize("with_bias", [False, True])
def test_loss_and_gradient_are_torchs_at_the_borders_of_chunks(count, with_bias):
    hidden, head, bias, targets = problem(count)
    ours, theirs = both(hidden, head, bias if with_bias else None, targets)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("vocabulary", [COLUMNS - 1, COLUMNS, COLUMNS + 1, 2 * COLUMNS + 7])
def test_a_vocabulary_is_multiplied_in_parts_to_the_same_end(vocabulary):
    hidden = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(1)).requires_grad_()
    head = torch.randn(vocabulary, HIDDEN, generator=torch.Generator().manual_seed(2))
    targets = torch.tensor([0, 1, COLUMNS - 2, vocabulary - 2, vocabulary - 1])
    ours, theirs = both(hidden, head, None, targets)
    torch.testing.assert_close(ours, theirs)


TERMS = [
    LossTerms(label_smoothing=0.1),
    LossTerms(z_loss=1e-2),
    LossTerms(label_smoothing=0.3, z_loss=0.5),
]


@pytest.mark.parametrize("terms", TERMS, ids=str)
def test_smoothing_and_z_loss_are_added_with_their_gradients(terms):
    ours, theirs = both(*problem(300), terms)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("terms", [PLAIN, *TERMS], ids=str)
def test_the_gradient_is_the_slope_of_the_loss(terms):
    hidden, head, bias, targets = problem(5)
    step = 1e-6 * problem(5, seed=3)[0].detach()

    def loss(h):
        return cross_entropy_sum(h, head, targets, bias=bias, terms=terms)

    loss(hidden).backward()
    with torch.no_grad():
        rise = (loss(hidden + step) - loss(hidden - step)) / 2
    assert float(rise) == pytest.approx(float((hidden.grad * step).sum()), rel=1e-6)


def test_a_loss_of_hundreds_of_nats_is_finite_and_right():
    hidden = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = cross_entropy_sum(hidden, torch.eye(2), torch.tensor([1, 1]))
    loss.backward()
    assert float(loss.detach()) == 200.0
    assert hidden.grad.tolist() == [[1, -1], [0, 0]]


def test_logits_beyond_float32s_exponential_are_right_too():
    hidden = torch.tensor([[1e4, -1e4]], requires_grad=True)
    terms = LossTerms(z_loss=1e-4)
    loss = cross_entropy_sum(hidden, torch.eye(2), torch.tensor([1]), terms=terms)
    assert float(loss.detach()) == pytest.approx(2e4 + 1e-4 * 1e8)


def test_in_bfloat16_the_loss_is_float32s_of_the_rounded_logits():
    hidden, head, _, targets = problem(300, torch.bfloat16)
    loss = cross_entropy_sum(hidden, head, targets)
    logits = (hidden.detach() @ head.T).float()
    assert loss.dtype == torch.float32
    expected = cross_entropy(logits, targets, reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert hidden.grad.dtype == torch.bfloat16
    exact, _, _, _ = problem(300)
    (theirs,) = torch.autograd.grad(plain(exact, head.double(), None, targets), exact)
    assert float((hidden.grad.double() - theirs).norm() / theirs.norm()) < 0.01


def test_where_no_gradient_is_asked_none_is_made():
    hidden, head, _, targets = problem(300)
    with torch.no_grad():
        loss = cross_entropy_sum(hidden, head, targets)
    assert not loss.requires_grad
    assert not cross_entropy_sum(hidden.detach(), head, targets).requires_grad
    torch.testing.assert_close(loss, plain(hidden.detach(), head, None, targets))


def test_without_positions_the_loss_is_zero():
    hidden, head, _, targets = problem(0)
    loss = cross_entropy_sum(hidden, head, targets)
    loss.backward()
    assert float(loss.detach()) == 0
    assert hidden.grad.shape == (0, HIDDEN)


def test_inputs_stay_as_they_were():
    hidden, head, bias, targets = problem(300)
    before = [x.detach().clone() for x in (hidden, head, bias, targets)]
    cross_entropy_sum(hidden, head, targets, bias=bias).backward()
    for one, other in zip((hidden, head, bias, targets), before, strict=True):
        assert torch.equal(one.detach(), other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_softmax_in_place_is_the_softmax_out_of_place(dtype):
    generator = torch.Generator().manual_seed(2)
    logits = 5 * torch.randn(64, 1000, generator=generator, dtype=dtype)
    chosen = torch.randint(0, 1000, (64, 1), generator=generator)
    expected = torch.softmax(logits, -1)
    expected.scatter_add_(1, chosen, torch.full((64, 1), -1.0, dtype=dtype))
    _loss_and_gradient(logits, chosen, PLAIN)
    assert torch.equal(logits, expected)


def test_logits_exist_for_one_chunk_at_a_time(monkeypatch):
    seen = []
    original = torch.mm

    def watched(*args, **kwargs):
        seen.append(args[0].shape[0])
        return original(*args, **kwargs)

    monkeypatch.setattr(torch, "mm", watched)
    hidden, head, _, targets = problem(2 * CHUNK + 5)
    cross_entropy_sum(hidden, head, targets)
    assert max(seen) == CHUNK


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("learns_hidden", [True, False])
def test_a_head_that_learns_gets_the_gradient_of_plain_cross_entropy(with_bias, learns_hidden):
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(shape, generator=generator).double() for shape in ((700, 6), (11, 6), (11,))
    ]
    targets = torch.randint(0, 11, (700,), generator=generator)

    def gradients(loss_of):
        hidden, head, bias = (t.clone().requires_grad_() for t in made)
        hidden.requires_grad_(learns_hidden)
        (3 * loss_of(hidden, head, bias if with_bias else None)).backward()
        return [t.grad for t in (hidden, head, bias)]

    found = gradients(lambda h, w, b: cross_entropy_sum(h, w, targets, bias=b))
    plain = gradients(
        lambda h, w, b: torch.nn.functional.cross_entropy(
            torch.nn.functional.linear(h, w, b), targets, reduction="sum"
        )
    )
    for one, two in zip(found, plain, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two)


def test_under_autocast_the_loss_is_in_float32_and_so_are_the_gradients_of_float32_weights():
    hidden, head = torch.randn(9, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.arange(9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy_sum(hidden, head, targets)
    loss.backward()
    assert {loss.dtype, hidden.grad.dtype, head.grad.dtype} == {torch.float32}
    exact = torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=1e-2)
    (wanted,) = torch.autograd.grad(exact, head)
    assert float((head.grad - wanted).norm() / wanted.norm()) < 2e-2
