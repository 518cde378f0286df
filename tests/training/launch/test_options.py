"""The options of several processes: what goes together, and what is said where it doesn't."""

from __future__ import annotations

import os

import pytest
import torch

from burnish.errors import RecipeError
from burnish.recipe import ModelSection, TrainSection
from burnish.training.launch import options
from burnish.training.launch.options import Launch, checked

MODEL, TRAIN = ModelSection(), TrainSection()


@pytest.fixture
def gpus(monkeypatch):
    """Four GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(options, "pick_device", lambda: torch.device("cuda"))


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(options, "pick_device", lambda: torch.device("cpu"))


def refused(launch, model=MODEL, section=TRAIN):
    with pytest.raises(RecipeError) as caught:
        checked(launch, model, section)
    return str(caught.value)


@pytest.mark.parametrize(
    "engine, strategy",
    [("torchrun", "ddp"), ("accelerate", "ddp"), ("deepspeed", "zero2"), ("ray", "ddp")],
)
def test_an_engine_brings_its_first_strategy_and_a_process_per_gpu(gpus, engine, strategy):
    found = checked(Launch(engine), MODEL, TRAIN)
    assert found == Launch(engine, processes=4, strategy=strategy)


def test_gpus_are_counted_over_all_nodes(gpus):
    found = checked(Launch("torchrun", nodes=2, node=1, address="a:1"), MODEL, TRAIN)
    assert (found.processes, found.processes_here) == (8, 4)


def test_the_processes_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert Launch("torchrun", processes=2).threads == 4
    assert Launch("torchrun", processes=16, nodes=2).threads == 1


@pytest.mark.parametrize(
    "launch, words",
    [
        (Launch("mpi"), "--launch: mpi is unknown"),
        (Launch("torchrun"), "--processes: there is no GPU here to count"),
        (Launch("torchrun", 2, "fsdp2"), "torchrun has no fsdp2.\n  Take --launch accelerate, or"),
        (Launch("ray", 2, "pipeline"), "ray has no pipeline.\n  Take --strategy ddp."),
        (Launch("accelerate", 2, "fsdp2"), "shards on GPUs only; on a CPU it would silently"),
        (Launch("deepspeed", 2), "--strategy zero2: accelerate shards on GPUs only"),
        (Launch("torchrun", 3, nodes=2, address="a:1"), "3 processes can't be the same number on"),
        (Launch("torchrun", 2, nodes=2), "--main-address: with several nodes each must know"),
        (Launch("torchrun", 2, nodes=2, address="a"), "--main-address"),
        (Launch("torchrun", 2, nodes=2, address="a:99999"), "--main-address"),
        (Launch("torchrun", 2, address="a:1"), "--main-address: one machine needs none"),
        (Launch("torchrun", 2, node=1), "--node-rank: it is 1 of 1 nodes"),
        (Launch("ray", 2, nodes=2, address="a:1"), "a Ray cluster knows its nodes"),
    ],
)
def test_options_that_make_no_sense_are_refused(no_gpu, launch, words):
    assert words in refused(launch)


@pytest.mark.parametrize("engine", ["torchrun", "accelerate", "deepspeed", "ray"])
def test_more_processes_than_gpus_are_refused(gpus, monkeypatch, engine):
    assert checked(Launch(engine, 4), MODEL, TRAIN).processes == 4
    words = refused(Launch(engine, 5))
    assert "--processes: 5 processes on a machine that has 4 GPUs.\n  Take --processes 4" in words
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    if engine == "ray":  # the cluster may have more than this machine
        assert checked(Launch(engine, 5), MODEL, TRAIN).processes == 5


def test_the_gpus_of_each_node_count(gpus):
    assert "8 processes on a machine" in refused(Launch("torchrun", 16, nodes=2, address="a:1"))


@pytest.mark.parametrize(
    "model, section, words",
    [
        (ModelSection(load_in_4bit=True), TRAIN, "a quantized base can't be spread"),
        (MODEL, TrainSection(method="full"), "only plain LoRA is trained on weights that are"),
        (ModelSection(new_tokens=["<x>"]), TRAIN, "only plain LoRA is trained on weights that"),
        (MODEL, TrainSection(backend="fast"), "the fast path needs whole weights"),
        (MODEL, TrainSection(optim="adafactor"), "the state of adafactor can't be put together"),
    ],
)
def test_a_recipe_whose_weights_cannot_be_spread_is_refused(gpus, model, section, words):
    assert words in refused(Launch("accelerate", strategy="fsdp2"), model, section)


def test_more_processes_than_records_of_a_step_are_warned_of(no_gpu, capfd):
    section = TrainSection(per_device_train_batch_size=1, gradient_accumulation_steps=2)
    checked(Launch("torchrun", 2), MODEL, section)
    assert capfd.readouterr().err == ""
    checked(Launch("torchrun", 3), MODEL, section)
    assert "a step has 2 records for 3 processes" in capfd.readouterr().err
