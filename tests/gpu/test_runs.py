"""Whole stages on a GPU: training in all widths, memory, generation, evaluation, doctor, plan."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from burnish.doctor import doctor
from burnish.generation import Sampling, generate
from burnish.models.loading import load_artifact, load_base, pick_dtype
from burnish.models.names import find_model
from burnish.pipeline import run_stage
from burnish.recipe import ModelSection
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from burnish.training.accumulation import Accumulation, Packing
from burnish.training.assembly import build as build_trainer
from burnish.training.backends import choose_backend
from burnish.training.journal import METRICS_NAME
from burnish.training.loss import PLAIN
from burnish.training.metrics import Reporter
from tests.conftest import byte_tokenizer, tiny_llama, write_recipe
from tests.training.family import adapted, build, records, take_gradients, worst_difference

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
GIB = 2**30
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory):
    """A random model that is wide enough for the kernels of 4 and 8 bits."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    tokenizer = byte_tokenizer()
    tiny_llama(len(tokenizer), **WIDE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prepared(folder, model, *settings):
    """A recipe whose rows are prepared."""
    text = (
        "run_dir: {folder}/run\n"
        f"model: {{{{name_or_path: {model}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        "prepare: {{max_length: 128, validation_size: 0.2, test_size: 0.2}}\n"
        "train: {{num_train_epochs: 3, learning_rate: 1e-2, logging_steps: 1, lora: {{r: 4}}}}\n"
        "evaluate: {{num_answers: 2, max_new_tokens: 8}}\n"
        "quantize: {{num_samples: 8, group_size: 32}}\n"
    )
    loaded = load_recipe(write_recipe(folder, text), list(settings))
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    return loaded


def trainer_of(loaded):
    run = RunDir(loaded.run_dir)
    run.folder("train").mkdir(parents=True, exist_ok=True)
    reporter = Reporter(run.folder("train") / METRICS_NAME)
    return build_trainer(loaded.recipe.model, loaded.recipe.train, run, reporter)


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["train.backend=fast"],
        ["train.gradient_checkpointing=true"],
        ["train.activation_offloading=true"],
        ["train.activation_offloading=true", "train.backend=fast"],
        ["train.torch_compile=true", "train.row_length=256"],
        ["train.packing=false"],
        ["train.bf16=false"],
        ["model.attn_implementation=flex_attention"],
    ],
    ids=lambda settings: " ".join(settings) or "as it comes",
)
def test_training_on_a_gpu_learns(tmp_path, wide_model, settings):
    loaded = prepared(tmp_path, wide_model, *settings)
    report = run_stage("train", loaded)
    run = RunDir(loaded.run_dir)
    lines = [json.loads(s) for s in (run.folder("train") / METRICS_NAME).read_text().splitlines()]
    losses = [line["validation/loss"] for line in lines if "validation/loss" in line]
    assert losses[-1] < losses[0]
    assert report["dtype"] == ("float32" if "train.bf16=false" in settings else "bfloat16")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_base_is_trained_on_a_gpu(tmp_path, wide_model, bits):
    pytest.importorskip("bitsandbytes")
    loaded = prepared(tmp_path, wide_model, f"model.load_in_{bits}bit=true")
    run_stage("train", loaded)
    lines = (RunDir(loaded.run_dir).folder("train") / METRICS_NAME).read_text().splitlines()
    losses = [json.loads(s)["validation/loss"] for s in lines if "validation/loss" in s]
    assert losses[-1] < losses[0]


def test_the_optimizer_is_fused_and_rows_are_packed_ahead_into_pinned_memory(
    tmp_path, wide_model, monkeypatch
):
    seen = []
    own = Accumulation.backward

    def backward(self, records, *, scale, ahead=None):
        seen.extend(row.input_ids.is_pinned() for row in ahead.rows.result())
        assert ahead.packing is self.packing
        return own(self, records, scale=scale, ahead=ahead)

    monkeypatch.setattr(Accumulation, "backward", backward)
    trainer = trainer_of(prepared(tmp_path, wide_model))
    trainer.train()
    assert seen
    assert all(seen)
    assert trainer.optimizer.optimizer.defaults["fused"] is True


# --- memory ----------------------------------------------------------------------------------


def gpu_accumulation(model, row_length):
    given = records([200] * 40, prefix=0)
    backend = choose_backend(model, given, wanted="transformers", terms=PLAIN)
    learning = [p for p in model.parameters() if p.requires_grad]
    packing = Packing(row_length, share_prefixes=False)
    return Accumulation(backend, packing, learning, GPU), given


def peak_of(work):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    result = work()
    return torch.cuda.max_memory_reserved(), result


def test_a_step_that_runs_out_of_the_gpus_memory_goes_again_in_shorter_rows(capfd):
    model = adapted(build("Llama", **WIDE, num_hidden_layers=6)).to(GPU)
    short, given = gpu_accumulation(model, 2000)
    needed, loss = peak_of(lambda: float(short.backward(given, scale=1e-3)))
    expected = take_gradients(model)
    long, _ = gpu_accumulation(model, 8000)
    too_much, _ = peak_of(lambda: long.backward(given, scale=1e-3))
    take_gradients(model)
    assert too_much > 1.5 * needed
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((needed + too_much) / 2 / total)
    try:
        found = float(long.backward(given, scale=1e-3))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found == pytest.approx(loss, rel=1e-4)
    assert worst_difference(take_gradients(model), expected) < 1e-3
    assert long.packing.row_length in (4000, 2000)
    assert "memory ran out: from here on rows have" in capfd.readouterr().err


@pytest.mark.model
@pytest.mark.parametrize("settings", [[], ["train.row_length=2048"]], ids=str)
def test_a_plan_says_what_the_gpus_tensors_take(tmp_path, settings):

    def squares(first, count):  # text that repeats nothing
        return ", ".join(str(n * n) for n in range(first, first + count))

    rows = [
        {"instruction": f"Squares {i}?", "input": "", "output": squares(1000 * i, 30 + i % 60)}
        for i in range(200)
    ]
    text = (
        "run_dir: {folder}/run\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        "prepare: {{validation_size: 0.05, test_size: 0}}\n"
        "train: {{max_steps: 2, use_liger_kernel: false}}\n"
        "model: {{attn_implementation: sdpa}}\n"
    )
    path = write_recipe(tmp_path, text, rows)
    loaded = load_recipe(path, settings)
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    command = [sys.executable, "-m", "burnish", "plan", str(path), "--json", "--no-calibrate"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    parts = json.loads(done.stdout)["memory_gib"]["cuda"]
    predicted = parts["peak"] - parts["others"]  # the context and workspaces are no tensors
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run_stage("train", loaded)
    measured = torch.cuda.max_memory_allocated() / GIB
    assert predicted == pytest.approx(measured, rel=0.15)


# --- other stages ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, wide_model):
    """A run with all its stages done on the GPU, and their reports."""
    loaded = prepared(tmp_path_factory.mktemp("finished"), wide_model)
    stages = ("train", "evaluate", "merge", "quantize")
    return loaded, {stage: run_stage(stage, loaded) for stage in stages}


def test_the_adapter_is_better_than_the_base_on_held_out_rows(finished):
    report = finished[1]["evaluate"]
    assert report["adapter"]["test/loss"] < report["base"]["test/loss"]


def test_the_merged_model_is_the_base_with_its_adapter(finished):
    assert finished[1]["merge"]["max_logit_difference"] < 1e-3


@pytest.mark.parametrize("artifact", ["base", "adapter", "merged", "quantized"])
def test_every_artifact_answers_on_the_gpu_and_alike_with_one_seed(finished, artifact):
    loaded, _ = finished
    model = load_artifact(artifact, loaded.recipe.model, RunDir(loaded.run_dir))
    assert next(model.parameters()).device.type == "cuda"
    prompts = [[1, 70, 80, 90], [1, 70]]
    for sampling in (Sampling(8, temperature=0), Sampling(8, temperature=1.0, seed=3)):
        first, second = (generate(model, prompts, sampling, stop_ids=[2]) for _ in range(2))
        assert first == second
        assert all(len(ids) <= 8 for ids in first)


def test_a_base_is_loaded_onto_the_gpu_in_bfloat16(wide_model):
    section = ModelSection(name_or_path=str(wide_model))
    base = load_base(find_model(section), section, dtype=pick_dtype())
    expected = torch.cuda.is_bf16_supported(including_emulation=False)
    assert (base.dtype == torch.bfloat16) is expected
    assert base.device.type == "cuda"


def test_doctor_names_the_gpu_and_goes_by_its_memory():
    report = doctor()
    assert len(report.gpus) == torch.cuda.device_count()
    first, total = report.gpus[0], torch.cuda.get_device_properties(0).total_memory
    assert first["name"] == torch.cuda.get_device_name(0)
    assert first["memory_gib"] == pytest.approx(total / GIB, abs=0.05)
    assert report.largest_model_billions["full"] is not None
    assert not any("no GPU" in advice for advice in report.advice)
