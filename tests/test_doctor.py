import subprocess
import sys
from importlib import util

import pytest

from burnish import __version__, doctor
from burnish.doctor import largest_model, memory_needed_gib


@pytest.fixture
def without_torch(monkeypatch):
    find_spec = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
    )


def test_doctor_works_without_torch_and_says_how_to_get_it(without_torch):
    report = doctor.doctor()
    assert report.burnish == __version__
    assert report.packages["torch"] is None
    assert report.gpus == []
    assert report.memory_gib > 0
    assert report.cores > 0
    assert "torch is not installed: pip install 'burnish[train]'" in report.advice


def test_doctor_imports_no_torch_where_there_is_none():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from burnish.doctor import doctor\n"
        "print(doctor().packages['torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_a_torch_that_cannot_be_loaded_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError
    gpus, fault = doctor._gpus()
    assert gpus == []
    assert fault == (
        "torch is installed but can't be loaded: import of torch halted; None in sys.modules"
    )


def test_memory_is_weights_adapter_activations_and_the_frame_around_them():
    # 1e9 weights: 2 bytes each, 0.6 % of them at 16 bytes, 0.35 + 0.4 GiB, 1 GiB of CUDA.
    expected = 2e9 / 2**30 + 0.096e9 / 2**30 + 0.75 + 1.0
    assert memory_needed_gib(1, "full", on_gpu=True) == pytest.approx(expected)
    on_cpu = 4e9 / 2**30 + 0.096e9 / 2**30 + 0.75 + 0.7
    assert memory_needed_gib(1, "full", on_gpu=False) == pytest.approx(on_cpu)


@pytest.mark.parametrize(
    ("room", "way", "largest"),
    [(24, "4-bit", 14), (24, "full", 7), (8, "4-bit", 7), (1, "full", None), (80, "4-bit", 72)],
)
def test_the_largest_model_that_fits_a_gpu(room, way, largest):
    assert largest_model(room, way, on_gpu=True) == largest


def test_a_cpu_trains_in_float32():
    # 0.5e9 weights at 4 bytes and the rest are 3.2 GiB; with 1.5e9 they would be 7.3.
    assert largest_model(4, "full", on_gpu=False) == 0.5


def test_the_kernels_that_training_would_take_are_named_where_there_is_a_gpu(monkeypatch):
    gpu = {"name": "a card", "memory_gib": 24.0, "bf16": True}
    have = {"flash_attn": None, "liger_kernel": "0.6.4"}
    monkeypatch.setattr(doctor, "_version", lambda name: have.get(name, "1.0"))
    said = "flash-attn is not installed; training on a GPU takes it where it is"
    for gpus, expected in (([gpu], True), ([], False)):
        monkeypatch.setattr(doctor, "_gpus", lambda gpus=gpus: (gpus, ""))
        advice = doctor.doctor().advice
        assert (said in advice) is expected
        assert not any("liger" in line for line in advice)
