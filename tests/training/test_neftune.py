"""Noise on embeddings: how much each record gets, when, and that it is gone afterwards."""

from __future__ import annotations

import pytest
import torch

from burnish.training.neftune import record_lengths, with_noise
from burnish.training.packing import pack

RECORDS = [([5] * 16, [-100] * 8 + [5] * 8), ([6] * 4, [-100] * 2 + [6] * 2)]
WIDTH = 25


@pytest.fixture
def row():
    (row,) = pack(RECORDS, 64, share_prefixes=False)
    return row


@pytest.fixture
def embedding():
    table = torch.nn.Embedding(8, WIDTH)
    torch.nn.init.zeros_(table.weight)
    return table.train()


def seen_by(embedding, row, alpha=10.0):
    torch.manual_seed(0)
    seen = []

    def loss_sum(row):
        seen.append(embedding(row.input_ids[None])[0])
        return seen[-1].sum()

    with_noise(loss_sum, embedding, alpha)(row)
    return seen[0].detach()


def test_each_token_knows_the_length_of_its_record(row):
    assert record_lengths(row).tolist() == [16.0] * 16 + [4.0] * 4


def test_noise_is_uniform_within_alpha_over_the_root_of_length_times_width(row, embedding):
    noise = seen_by(embedding, row)
    for part, bound in ((noise[:16], 10 / (16 * 25) ** 0.5), (noise[16:], 10 / (4 * 25) ** 0.5)):
        assert 0.95 * bound < float(part.abs().max()) <= bound
        assert abs(float(part.mean())) < bound / 5


def test_there_is_none_in_evaluation(row, embedding):
    assert not seen_by(embedding.eval(), row).any()


def test_it_is_gone_afterwards(row, embedding):
    seen_by(embedding, row)
    assert not embedding(row.input_ids).any()


def test_it_is_gone_after_an_error_too(row, embedding):
    def fails(row):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        with_noise(fails, embedding, 5.0)(row)
    assert not embedding(row.input_ids).any()


def test_gradients_reach_an_embedding_that_learns_as_without_noise(row, embedding):
    with_noise(lambda row: embedding(row.input_ids[None]).sum(), embedding, 5.0)(row).backward()
    counts = embedding.weight.grad[:, 0].tolist()
    assert counts == [0, 0, 0, 0, 0, 16, 4, 0]
