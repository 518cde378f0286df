"""Rows, loops and outlooks for tests that look at the arithmetic of a plan."""

from __future__ import annotations

import numpy as np
import torch

from burnish.planning.batches import Batch, MicroBatches
from burnish.planning.loops import Loop
from burnish.planning.memory import Memory, Place
from burnish.planning.outlook import Outlook, with_settings
from burnish.planning.rows import cut
from burnish.planning.step import Setting
from burnish.recipe import DataSection, Recipe, Source
from burnish.training.rehearsal import rehearsed_loop
from tests.conftest import tiny_llama

RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))


def recipe_with(**changes):
    """The recipe with settings changed, a double underscore for the dot."""
    return with_settings(RECIPE, {k.replace("__", "."): v for k, v in changes.items()})


def batch(length, supervised, *, records=1):
    """A row of so many tokens, of records that are alike; every token sees all of the row."""
    size = length // records
    parts = tuple((n * size, (n + 1) * size, 0, 0) for n in range(records))
    return Batch(length, supervised, parts, length**2)


def batches(*shapes, lanes=1, share=1.0):
    """Rows of (length, supervised)."""
    return MicroBatches(tuple(batch(*shape) for shape in shapes), lanes, share)


def own_forward(config, **changes):
    """The trainer's loop over the model's own forward."""
    return rehearsed_loop(recipe_with(train__backend="transformers", **changes), config, "cpu")


def records(*shapes):
    """Records of (length, supervised) that begin alike nowhere."""
    return [
        ([number] * length, [-100] * (length - learned) + [number] * learned)
        for number, (length, learned) in enumerate(shapes)
    ]


def silent_loop():
    """A loop that nobody runs."""

    def never(*_):
        raise AssertionError("this loop is not run")

    return Loop("silent", never, never, never, never, never, never, bucket=1000)


def memory_of(peak, *, recomputed=0):
    """Memory of so many GiB, all of it weights."""
    return Memory(
        dtype="float32",
        weights=peak,
        adapters=0,
        gradients=0,
        optimizer=0,
        activations=0,
        logits=0,
        others=0,
        peak=peak,
        worst_moment="training",
        recomputed_layers=recomputed,
    )


def outlook_of(recipe, peak, *, room=None, training=None, validation=None, lengths=(10,) * 16):
    """An outlook of a made-up peak in GiB."""
    sizes = np.array(lengths, dtype=np.int64)
    left, supervised, num_cut = cut(sizes, sizes, recipe.prepare)
    config = tiny_llama(100).config
    return Outlook(
        recipe=recipe,
        place=Place("cpu", 0.0, room),
        loop=silent_loop(),
        setting=Setting(config, recipe.train, None, torch.float32),
        records=(),
        lengths=left,
        supervised=supervised,
        training=training or batches((10, 5)),
        validation=validation,
        num_cut=num_cut,
        memory=memory_of(peak),
    )
