"""The evaluate stage: base and adapter measured alike."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import transformers

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.evaluation.answers import Question, answer_all, safe_cell
from burnish.evaluation.evaluate import evaluate
from burnish.models.loading import load_base
from burnish.pipeline import run_stage
from burnish.recipe import EvaluateSection
from burnish.recipe_file import load_recipe
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir
from tests.conftest import byte_tokenizer, write_recipe

BENCHMARKS = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"


def tuned(folder, model, *, sizes="validation_size: 0.2, test_size: 0.2", **overrides):
    """A recipe whose stages up to train are done."""
    folder.mkdir(exist_ok=True)
    text = (
        "run_dir: {folder}/run\n"
        f"model: {{{{name_or_path: {model}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        f"prepare: {{{{max_length: 128, {sizes}}}}}\n"
        "train: {{bf16: false, num_train_epochs: 2, learning_rate: 2e-2, lora: {{r: 2}}}}\n"
    )
    loaded = load_recipe(
        write_recipe(folder, text), [f"{name}={value}" for name, value in overrides.items()]
    )
    for name in ("clean", "prepare", "train"):
        run_stage(name, loaded)
    return loaded


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_model):
    return tuned(tmp_path_factory.mktemp("evaluate"), tiny_model)


def measure(loaded, **settings):
    section = EvaluateSection(**{"num_answers": 2, "max_new_tokens": 6, **settings})
    run = RunDir(loaded.run_dir)
    report = evaluate(loaded.recipe.model, section, run)
    with (run.folder("evaluate") / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        return report, list(csv.DictReader(file))


def test_losses_of_base_and_adapter_are_of_both_held_out_splits(done):
    report, _ = measure(done)
    assert report.base.keys() == report.adapter.keys()
    assert {k.partition("/")[0] for k in report.base} == {"validation", "test"}
    assert report.adapter["test/loss"] < report.base["test/loss"]
    assert report.base["test/perplexity"] == pytest.approx(math.exp(report.base["test/loss"]))
    assert report.base["test/num_tokens"] == report.adapter["test/num_tokens"] == 120
    scores = json.loads((RunDir(done.run_dir).folder("evaluate") / "scores.json").read_text())
    assert scores["adapter"] == report.adapter
    assert scores["benchmarks"] == {}


def test_the_validation_loss_is_the_one_that_training_saw(done):
    report, _ = measure(done, num_answers=0)
    trained = RunDir(done.run_dir).read_manifest()["stages"]["train"]["report"]
    assert report.adapter["validation/loss"] == pytest.approx(trained["validation/loss"], abs=1e-6)


@pytest.mark.parametrize("size", [1, 5])
def test_losses_do_not_depend_on_the_batch_size(done, size):
    usual, _ = measure(done, num_answers=0)
    report, _ = measure(done, num_answers=0, per_device_eval_batch_size=size)
    assert report.adapter == pytest.approx(usual.adapter, abs=1e-6)


def base_answers(loaded, rows):
    run, section = RunDir(loaded.run_dir), loaded.recipe.model
    base = load_base(Path(section.name_or_path), section, dtype=torch.float32)
    questions = [Question((Message("user", row["question"]),), row["origin"]) for row in rows]
    tokenizer = load_tokenizer(run.tokenizer, section)
    return answer_all(base, tokenizer, questions, max_new_tokens=6, what="answer")


def test_own_prompts_come_first_and_the_base_column_is_the_bases_own(done):
    report, rows = measure(done, prompts=["Who are you?", "再说一次"])
    assert report.num_answers == len(rows) == 4
    assert [row["question"] for row in rows[:2]] == ["Who are you?", "再说一次"]
    assert rows[0]["origin"] == "evaluate.prompts[0]"
    assert rows[0]["reference"] == ""
    assert rows[2]["reference"].startswith("Answer ")
    assert "rows.json:" in rows[2]["origin"]
    assert [row["base"] for row in rows] == [safe_cell(a) for a in base_answers(done, rows)]


def test_trained_biases_do_not_leak_into_the_base_column(tmp_path):
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=2,
    )
    model = tmp_path / "qwen2"
    transformers.Qwen2ForCausalLM(config).save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    plain = tuned(tmp_path / "none", model)
    biased = tuned(tmp_path / "all", model, **{"train.lora.bias": "all"})
    without, _ = measure(plain, num_answers=0)
    report, _ = measure(biased, num_answers=0)
    assert report.base == without.base
    assert report.adapter != without.adapter


def test_an_empty_test_split_is_replaced_by_validation_with_a_warning(tmp_path, tiny_model, capfd):
    loaded = tuned(tmp_path, tiny_model, sizes="validation_size: 0.2, test_size: 0")
    report, rows = measure(loaded)
    assert {k.partition("/")[0] for k in report.base} == {"validation"}
    assert len(rows) == 2
    assert "warning: the test split is empty; validation is used" in capfd.readouterr().err


def test_the_training_split_can_be_looked_at_too(done):
    report, rows = measure(done, split="train", num_answers=3)
    assert "train/loss" in report.adapter
    assert len(rows) == 3


def test_nothing_held_out_is_an_error(tmp_path, tiny_model):
    loaded = tuned(tmp_path, tiny_model, sizes="validation_size: 0, test_size: 0")
    with pytest.raises(DataError, match="nothing to measure on") as caught:
        measure(loaded)
    assert "prepare.test_size" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmark files are not here")
def test_two_subjects_of_mmlu_and_truthfulqa_run_offline_on_base_and_adapter(done):
    pytest.importorskip("lm_eval")
    tasks = ["mmlu_anatomy", "mmlu_virology", "truthfulqa_mc1"]
    report, _ = measure(
        done, num_answers=0, tasks=tasks, limit=4, num_fewshot=1, benchmarks_folder=str(BENCHMARKS)
    )
    assert report.benchmarks.keys() == set(tasks)
    for scores in report.benchmarks.values():
        for side in ("base", "adapter"):
            assert scores[side]["acc"] in (0.0, 0.25, 0.5, 0.75, 1.0)
            assert scores[side]["acc_stderr"] >= 0
