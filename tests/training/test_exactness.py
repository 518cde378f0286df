"""The whole loop against Hugging Face and PEFT: the same mathematics, whatever the packing."""

from __future__ import annotations

import copy

import pytest
import torch
from peft.utils import get_peft_model_state_dict
from torch.nn.functional import cross_entropy

from burnish.scoring import collate
from burnish.training.llama.model import read_model
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from burnish.training.steps import StepBatches
from tests.training.family import (
    FAMILY,
    adapted,
    build,
    by_rows,
    num_supervised,
    one_by_one,
    records,
    take_gradients,
    worst_difference,
)

RECORDS = records()
TARGETS = {"all linear": "all-linear", "q and v": ["q_proj", "v_proj"]}


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("name", FAMILY)
def test_loss_and_every_gradient_are_those_of_one_record_at_a_time_in_float64(name, targets):
    kind, settings = FAMILY[name]
    model = adapted(build(kind, **settings), TARGETS[targets])
    loss, gradients = one_by_one(copy.deepcopy(model).double(), RECORDS)
    fast = read_model(model)
    for share in (False, True):
        rows = pack(RECORDS, 200, share_prefixes=share)
        assert any(s.prefix for row in rows for s in row.segments) == share
        found, found_gradients = by_rows(model, fast.loss_sum, rows)
        assert found == pytest.approx(loss, rel=1e-6)
        assert worst_difference(found_gradients, gradients) < 1e-5


@pytest.mark.parametrize("share", [False, True])
def test_in_float64_only_what_hugging_face_computes_in_float32_is_left(share):
    model = adapted(build("Qwen3", head_dim=10)).double()
    loss, gradients = one_by_one(model, RECORDS)
    rows = pack(RECORDS, 200, share_prefixes=share)
    found, found_gradients = by_rows(model, read_model(model).loss_sum, rows)
    # Norms and softmax of transformers are in float32 whatever the model.
    assert found == pytest.approx(loss, rel=1e-7)
    assert worst_difference(found_gradients, gradients) < 1e-6


@pytest.mark.parametrize("name", ["llama, tied head", "qwen2", "qwen3", "llama, odd sizes"])
def test_in_bfloat16_it_errs_no_more_than_hugging_face_does(name):
    kind, settings = FAMILY[name]
    # Base and adapter rounded first, so that float64 computes with the same weights.
    model = adapted(build(kind, **settings)).to(torch.bfloat16)
    loss, gradients = one_by_one(copy.deepcopy(model).double(), RECORDS)
    reference = torch.cat([g.flatten() for g in gradients.values()])

    def errors(result):
        found_loss, found = result
        gradient = torch.cat([g.flatten().double() for g in found.values()])
        return abs(found_loss - loss) / loss, float((gradient - reference).norm())

    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()  # as the trainer has it
    their_loss, theirs = errors(by_rows(model, PackedModel(model).loss_sum, pack_all(False)))
    for share in (False, True):
        our_loss, ours = errors(by_rows(model, read_model(model).loss_sum, pack_all(share)))
        assert ours < 1.2 * theirs
        assert our_loss < max(1.5 * their_loss, 2e-3)


def pack_all(share):
    return pack(RECORDS, 200, share_prefixes=share)


def plain_losses(model, data, batches, *, learning_rate):
    """Losses of a plain padded loop on the model's own forward."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=0.0)
    losses = []
    for batch in batches:
        inputs = collate([data[i] for i in batch])
        logits = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def packed_losses(model, data, batches, *, learning_rate):
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=0.0)
    losses = []
    fast = read_model(model)
    for batch in batches:
        rows = pack([data[i] for i in batch], 64, share_prefixes=True)
        loss, gradients = by_rows(model, fast.loss_sum, rows)
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.grad = gradients[name]
        optimizer.step()
        losses.append(loss)
    return losses


def test_fifty_steps_have_the_loss_curve_of_a_plain_padded_loop():
    data = records([5, 17, 30, 9, 12, 40, 8, 21, 33, 6], prefix=12)
    steps = StepBatches([len(ids) for ids, _ in data], records=4, tokens=None, seed=3)
    batches = []
    for epoch in range(17):
        steps.set_epoch(epoch)
        batches += list(steps)
    one = adapted(build("Llama", tie_word_embeddings=True))
    other = copy.deepcopy(one)
    expected = plain_losses(one, data, batches[:50], learning_rate=5e-3)
    found = packed_losses(other, data, batches[:50], learning_rate=5e-3)
    assert expected[-1] < expected[0] - 0.5
    assert found == pytest.approx(expected, rel=1e-4)
    states = [get_peft_model_state_dict(m) for m in (one, other)]
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=0, atol=2e-3)


@pytest.mark.parametrize("backend", [read_model, PackedModel])
def test_gradients_are_the_same_whatever_goes_through_the_model_at_a_time(backend):
    data = records([5, 17, 30, 9, 12, 40, 8, 21], prefix=12)
    model = adapted(build("Llama"))
    part, count = backend(model), num_supervised(data)
    results = []
    for at_a_time in (1, 2, 4, 8):
        for start in range(0, 8, at_a_time):
            for row in pack(data[start : start + at_a_time], 999, share_prefixes=False):
                (part.loss_sum(row) / count).backward()
        results.append(take_gradients(model))
    assert all(worst_difference(found, results[0]) < 1e-6 for found in results[1:])


@pytest.mark.parametrize("backend", [read_model, PackedModel])
def test_the_evaluation_loss_does_not_depend_on_how_many_records_share_a_row(backend):
    data = records([20, 17, 19, 18] * 4, prefix=0)
    model = adapted(build("Llama"))
    losses, most = [], []
    for row_length in (1, 85, 400):
        rows = pack(data, row_length, share_prefixes=False)
        most.append(max(len(row.segments) for row in rows))
        with torch.no_grad():
            total = sum(float(backend(model).loss_sum(row)) for row in rows)
        losses.append(total / num_supervised(data))
    assert most == [1, 4, 16]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)
