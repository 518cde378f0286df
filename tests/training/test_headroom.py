import pytest
import torch
from datasets import Dataset
from peft import get_peft_model

from burnish.models.lora import lora_config
from burnish.planning.memory import OPTIMIZER_BYTES, setting_of
from burnish.planning.step import Transient, step_bytes
from burnish.recipe import ModelSection, TrainSection
from burnish.training import headroom, rehearsal
from burnish.training.headroom import layers_to_recompute
from burnish.training.rehearsal import loop_of
from tests.conftest import tiny_llama
from tests.planning.made_up import records

GIB = 2**30
DEPTH = 8


@pytest.fixture
def folder(tmp_path):
    tiny_llama(300, num_hidden_layers=DEPTH).config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Sets the GiB that this machine has left, in one lane."""
    monkeypatch.setattr(rehearsal, "set_threads", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(headroom, "mapped_gib", lambda: 0.0)
    return lambda gib: monkeypatch.setattr(headroom, "available_gib", lambda: gib)


def examples():
    ids, labels = zip(*records(*[(100, 40)] * 16), strict=True)
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "num_cut": [0] * 16})


def number_of(folder, backend="fast", **settings):
    section = TrainSection(**settings)
    base = tiny_llama(300, num_hidden_layers=DEPTH)
    tuned = get_peft_model(base, lora_config(section.lora))
    model = ModelSection(name_or_path=str(folder))
    return layers_to_recompute(
        model, section, tuned, examples(), backend=backend, compute=torch.float32
    )


def needed_gib(folder, backend, number):
    """What this machine must have left so that so many layers are enough: by hand, a row of 800
    tokens, gradients and AdamW's moments of every trained weight, and a tenth on top."""
    model, section = ModelSection(name_or_path=str(folder)), TrainSection(backend=backend)
    config = tiny_llama(300, num_hidden_layers=DEPTH).config
    loop = loop_of(model, section, config, "cpu")
    setting = setting_of(model, section, config, torch.float32)
    row = loop.training(records(*[(100, 40)] * 16)).worst
    assert row.length == 800
    trained = 16 * DEPTH * (2 * 64 + 2 * 48 + 3 * 96)
    lasting = (4 + OPTIMIZER_BYTES["adamw_torch_fused"]) * trained
    return (step_bytes(setting, row, loop, number).total + lasting) / GIB / 0.9


@pytest.mark.parametrize("backend", ["fast", "transformers"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_as_few_layers_recompute_as_memory_asks_for(folder, machine, backend, number, capfd):
    exactly = needed_gib(folder, backend, number)
    machine(exactly * 1.0001)
    assert number_of(folder, backend) == number
    said = capfd.readouterr().err
    assert (f"{number} of {DEPTH} layers recompute their activations" in said) == (number > 0)
    machine(exactly * 0.9999)
    assert number_of(folder, backend) == number + 1


def test_where_nothing_is_enough_it_says_so(folder, machine, capfd):
    machine(0.001)
    assert number_of(folder) > 0
    assert "although" in capfd.readouterr().err


def test_pages_of_the_mapped_weights_are_not_free(folder, machine, monkeypatch):
    machine(needed_gib(folder, "fast", 0) * 1.001)
    assert number_of(folder) == 0
    monkeypatch.setattr(headroom, "mapped_gib", lambda: 0.001)
    assert number_of(folder) > 0


def test_processes_of_one_machine_share_its_memory(folder, machine, monkeypatch):
    machine(needed_gib(folder, "fast", 0) * 1.001)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert number_of(folder) > 0


@pytest.mark.parametrize(("wanted", "number"), [(False, 0), (True, DEPTH), (3, 3), (99, DEPTH)])
def test_a_recipe_that_says_how_many_is_obeyed_without_looking(folder, monkeypatch, wanted, number):
    monkeypatch.setattr(headroom, "loop_of", lambda *_: pytest.fail("nothing is to be counted"))
    assert number_of(folder, gradient_checkpointing=wanted) == number


def test_with_plenty_of_memory_nothing_is_counted(folder, machine, monkeypatch):
    monkeypatch.setattr(headroom, "loop_of", lambda *_: pytest.fail("nothing is to be counted"))
    machine(8.0)
    assert number_of(folder) == 0


def test_of_what_is_offloaded_the_cpu_must_have_room(folder, machine, monkeypatch, capfd):
    # 9 GiB go to the CPU, and one less for every layer that recomputes; next to nothing stays.
    def step(setting, row, loop, number):
        return Transient(2**20, 0.0, offloaded=(9 - number) * GIB)

    monkeypatch.setattr(headroom, "bound_bytes", lambda model, num_tokens: float("inf"))
    monkeypatch.setattr(headroom, "step_bytes", step)
    machine(5.01 / 0.9)
    assert number_of(folder) == 4
    assert "of the CPU's memory" not in capfd.readouterr().err
    machine(0.5 / 0.9)
    assert number_of(folder) == DEPTH
    said = capfd.readouterr().err
    assert "activations may take 1.0 GiB of the CPU's memory, where 0.5 are left" in said
