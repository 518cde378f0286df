"""Steps come in order, each after the one behind it was made."""

from __future__ import annotations

import pytest
from accelerate.data_loader import skip_first_batches

from burnish.training.batches import StepLoader

STEPS = [[0, 1], [2], [3, 4]]


@pytest.fixture
def made():
    return []


@pytest.fixture
def loader(made):
    def collate(examples):
        made.append(examples)
        return {"records": examples}

    return StepLoader(range(10, 20), batch_sampler=STEPS, collate_fn=collate)


def test_a_step_is_given_when_the_next_one_is_made(loader, made):
    seen = [(step["records"], len(made)) for step in loader]
    assert seen == [([10, 11], 2), ([12], 3), ([13, 14], 3)]


def test_every_epoch_has_all_steps(loader):
    assert len(loader) == 3
    assert list(loader) == list(loader)


def test_no_step_is_lost_where_the_first_ones_are_left_out(loader):
    found = [step["records"] for step in skip_first_batches(loader, 1)]
    assert found == [[12], [13, 14]]


def test_without_steps_nothing_comes():
    assert list(StepLoader([], batch_sampler=[])) == []
