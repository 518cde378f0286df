"""train.speed: int8: close to the exact fast path, bounded, and refused where it can't be."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import TrainingError
from burnish.training import rounding
from burnish.training.backends import choose_backend
from burnish.training.comparison import deviation, measure
from burnish.training.loss import PLAIN
from burnish.training.packing import pack
from burnish.training.rounding import in_8_bits
from tests.training.test_trainer import adapted, rows


def chosen(model, wanted="fast"):
    return choose_backend(model, rows(), wanted=wanted, terms=PLAIN)


def test_it_is_near_the_exact_path_and_says_how_near(capfd):
    model = adapted()
    exact = chosen(model)
    rounded = in_8_bits(exact, model, rows(), PLAIN)
    packed = pack(rows(), 64, share_prefixes=False)
    own, other = (measure(model, way.loss_sum, packed) for way in (exact, rounded))
    loss_off, gradient_off = deviation(own, other)
    assert 0 < loss_off < 0.02
    assert 0 < gradient_off < 0.2
    assert (
        "approximate: frozen weights in 8 bits put a few records off by" in capfd.readouterr().err
    )
    assert (rounded.name, rounded.takes_lanes) == ("fast", True)


def test_the_models_own_weights_stay_as_they_are():
    model = adapted()
    before = {n: p.clone() for n, p in model.named_parameters()}
    in_8_bits(chosen(model), model, rows(), PLAIN)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_without_the_fast_path_it_is_refused():
    model = adapted()
    with pytest.raises(TrainingError, match="int8 can't be taken: it needs the fast path: the rec"):
        in_8_bits(chosen(model, "transformers"), model, rows(), PLAIN)


def test_what_is_off_by_more_than_rounding_is_refused(monkeypatch):
    monkeypatch.setattr(rounding, "MOST_OFF", 1e-4)
    model = adapted()
    with pytest.raises(TrainingError, match="which is more than rounding"):
        in_8_bits(chosen(model), model, rows(), PLAIN)
