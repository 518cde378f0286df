"""Each line of docs/guide.md, run. What needs the real model is marked slow."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from burnish.authoring import new
from burnish.cleaning.text import repair
from burnish.doctor import doctor
from burnish.pipeline import run_stage
from burnish.recipe import CleanSection
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from tests.conftest import write_recipe

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT.parent / "shared" / "data" / "benchmarks"


def changed(loaded, tmp_path, *overrides):
    """The tiny recipe with some settings changed, in the same run folder."""
    return load_recipe(tmp_path / "recipe.yaml", [f"run_dir={loaded.run_dir}", *overrides])


def train_with(loaded, tmp_path, *overrides):
    """Cleans, prepares and trains; returns the train report."""
    loaded = changed(loaded, tmp_path, *overrides)
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    return run_stage("train", loaded)


def test_every_line_of_the_table_names_a_test_that_exists():
    page = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    named = re.findall(r"\| (test_\w+) \|$", page, flags=re.MULTILINE)
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(named) == len(lines) >= 25
    assert set(named) <= set(globals())


def test_doctor_names_the_sizes_that_fit_this_machine():
    report = doctor()
    assert set(report.largest_model_billions) == {"full", "8-bit", "4-bit"}
    assert report.memory_gib > 0


def test_new_writes_a_recipe_for_a_csv_and_it_loads(tmp_path):
    data = tmp_path / "mine.csv"
    data.write_text("instruction,input,output\n你好,,您好\n", encoding="utf-8")
    report = new(data, tmp_path / "mine.yaml")
    assert (report.layout, report.language) == ("alpaca", "Chinese")
    assert load_recipe(tmp_path / "mine.yaml").recipe.data.sources[0].path == str(data)


def test_cleaning_keeps_what_the_guides_regular_expressions_destroy():
    text = "HBV-DNA<10^3拷贝/ml，ALT>40U/L\n第二行"
    assert repair(text, CleanSection(), about_markup=False) == (text, [])


def test_the_splits_are_hugging_face_data_sets(tiny_recipe):
    from datasets import load_from_disk

    run_stage("clean", tiny_recipe)
    counts = run_stage("prepare", tiny_recipe)["num_examples"]
    folder = RunDir(tiny_recipe.run_dir)
    assert {name: len(load_from_disk(str(folder.split(name)))) for name in counts} == counts
    assert sum(counts.values()) == 40


def test_the_guides_prompt_is_a_template_that_travels_with_the_model(tiny_recipe, tmp_path):
    from transformers import AutoTokenizer

    loaded = changed(tiny_recipe, tmp_path, "model.chat_template=plain_zh")
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    saved = AutoTokenizer.from_pretrained(str(RunDir(loaded.run_dir).tokenizer))
    message = {"role": "user", "content": "头疼怎么办？", "input": "三天了"}
    text = saved.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert text == "### 指令:\n头疼怎么办？\n\n### 输入:\n三天了\n\n### 响应:\n"


def test_labels_line_up_with_the_answer(tiny_recipe):
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    run_stage("clean", tiny_recipe)
    run_stage("prepare", tiny_recipe)
    folder = RunDir(tiny_recipe.run_dir)
    saved = AutoTokenizer.from_pretrained(str(folder.tokenizer))
    row = load_from_disk(str(folder.split("train")))[0]
    learned = [label for label in row["labels"] if label != -100]
    assert saved.decode(learned) == row["messages"][-1]["content"] + "<|im_end|>"


def test_the_lora_settings_reach_the_adapter(tiny_recipe, tmp_path):
    settings = "train.lora={r: 2, lora_alpha: 6, lora_dropout: 0.1, target_modules: [q_proj]}"
    report = train_with(tiny_recipe, tmp_path, settings, "train.max_steps=1")
    written = json.loads((Path(report["adapter"]) / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"], written["lora_dropout"]) == (2, 6, 0.1)
    assert (written["bias"], written["target_modules"]) == ("none", ["q_proj"])


def test_the_training_settings_reach_the_trainer(tiny_recipe, tmp_path):
    from burnish.recipe import TrainSection
    from burnish.training.arguments import training_arguments

    settings = {
        "num_train_epochs": 2.0,
        "per_device_train_batch_size": 3,
        "per_device_eval_batch_size": 5,
        "gradient_accumulation_steps": 7,
        "learning_rate": 3e-4,
        "weight_decay": 0.01,
        "lr_scheduler_type": "linear",
        "eval_strategy": "steps",
        "eval_steps": 50,
        "save_strategy": "steps",
        "save_steps": 100,
        "logging_steps": 25,
        "load_best_model_at_end": True,
        "seed": 1,
    }
    section = TrainSection(**settings, warmup_ratio=0.1)
    made = training_arguments(section, tmp_path, has_validation=True)
    # A step's examples come as one batch; the trainer adds up its rows itself.
    for name, value in (settings | {"gradient_accumulation_steps": 1}).items():
        assert getattr(made, name) == value, name
    assert (made.get_warmup_steps(200), made.report_to) == (20, [])
    assert (made.metric_for_best_model, made.greater_is_better) == ("eval_loss", False)
    sizes = ["train.per_device_train_batch_size=3", "train.gradient_accumulation_steps=4"]
    report = train_with(tiny_recipe, tmp_path, "train.num_train_epochs=1", *sizes)
    assert report["steps"] == 2  # 24 examples, 3 x 4 in a step


def test_bf16_trains(tiny_recipe, tmp_path):
    report = train_with(tiny_recipe, tmp_path, "train.bf16=true", "train.max_steps=2")
    assert report["dtype"] == "bfloat16"
    assert report["train/loss"] > 0


def test_a_smaller_micro_batch_with_accumulation_gives_the_same_loss(tiny_recipe, tmp_path):
    sizes = [(4, 1, 1024), (2, 2, 1024), (1, 4, 1024), (4, 1, 8)]
    losses = [
        train_with(
            tiny_recipe,
            tmp_path,
            "train.max_steps=1",
            f"train.per_device_train_batch_size={micro}",
            f"train.gradient_accumulation_steps={steps}",
            f"train.row_length={tokens}",
        )["train/loss"]
        for micro, steps, tokens in sizes
    ]
    assert losses == pytest.approx([losses[0]] * 4, abs=1e-5)


def test_gradient_checkpointing_gives_the_same_loss(tiny_recipe, tmp_path):
    plain, checkpointed = (
        train_with(
            tiny_recipe,
            tmp_path,
            "train.max_steps=3",
            f"train.gradient_checkpointing={value}",
        )["train/loss"]
        for value in ("false", "true")
    )
    assert checkpointed == pytest.approx(plain, abs=1e-6)


def test_early_stopping_ends_a_run(tiny_recipe, tmp_path):
    report = train_with(
        tiny_recipe,
        tmp_path,
        "train.num_train_epochs=30",
        "train.learning_rate=0.5",
        "train.weight_decay=0.1",
        "train.lora.lora_dropout=0.1",
        "train.early_stopping_patience=1",
    )
    assert report["steps"] < 30 * 3


def test_a_request_overrides_the_servers_defaults():
    from burnish.generation import Sampling
    from burnish.recipe import ServeSection
    from burnish.serving.protocol import GenerateRequest

    asked = {"instruction": "a", "max_length": 9, "temperature": 0, "repetition_penalty": 1.2}
    defaults = ServeSection(max_new_tokens=5, temperature=0.5, top_p=0.8)
    made = GenerateRequest.model_validate(asked).sampling(defaults)
    assert made == Sampling(9, temperature=0, top_p=0.8, repetition_penalty=1.2)


@pytest.mark.parametrize("name", ["medical_zh.yaml", "medical_zh_7b.yaml"])
def test_the_medical_recipes_load(name):
    assert load_recipe(ROOT / "recipes" / name).recipe.data.sources


# --- the real model -------------------------------------------------------------------------------


def burnish(*arguments, folder):
    """Runs the command in a process of its own; returns what it printed on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "burnish", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def real_recipe(folder: Path, *more: str) -> Path:
    text = f"""\
run_dir: runs/real
data: {{{{sources: [{{{{path: {ROOT}/recipes/medical_zh.csv, limit: 90}}}}]}}}}
prepare: {{{{max_length: 256, validation_size: 0.1, test_size: 0.1}}}}
train: {{{{max_steps: 6, learning_rate: 5e-4, eval_strategy: "no", save_strategy: "no",
  load_best_model_at_end: false, logging_steps: 2}}}}
evaluate: {{{{prompts: [感冒了要吃抗生素吗？], num_answers: 2, max_new_tokens: 32}}}}
quantize: {{{{bits: 4, group_size: 128, desc_act: false, num_samples: 8}}}}
serve: {{{{max_new_tokens: 32, temperature: 0}}}}
"""
    return write_recipe(folder, text + "\n".join(more))


@pytest.fixture(scope="session")
def real_run(tmp_path_factory):
    """All stages on the real model, once for the tests below."""
    folder = tmp_path_factory.mktemp("real")
    recipe = real_recipe(folder)
    return folder, recipe, json.loads(burnish("run", str(recipe), "--json", folder=folder))


@pytest.mark.slow
@pytest.mark.model
def test_the_whole_guide_on_the_real_model(real_run):
    _, _, report = real_run
    evaluated = report["evaluate"]
    assert evaluated["adapter"]["test/loss"] < evaluated["base"]["test/loss"]
    with open(evaluated["answers"], encoding="utf-8-sig", newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == 3
    assert report["merge"]["kl_divergence"] < 1e-6
    assert report["quantize"]["group_size"] == 64  # 128 does not divide a width of 576


@pytest.mark.slow
@pytest.mark.model
def test_the_merged_model_in_plain_transformers_answers_like_burnish_chat(real_run):
    folder, recipe, report = real_run
    questions = ["感冒了要吃抗生素吗？", "What should I do if someone is choking?"]
    plain = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
answers = []
for question in sys.argv[2:]:
    batch = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**batch, max_new_tokens=32, do_sample=False)
    answers.append(tokenizer.decode(out[0][batch["input_ids"].shape[1]:], skip_special_tokens=True))
print(json.dumps(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", plain, report["merge"]["model"], *questions],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [
        json.loads(burnish("chat", str(recipe), "-m", question, "--json", folder=folder))["answer"]
        for question in questions
    ]
    assert ours == json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.model
def test_the_quantized_model_is_served(real_run):
    folder, recipe, _ = real_run
    command = [sys.executable, "-m", "burnish", "serve", str(recipe), "--json"]
    command += ["--set", "serve.artifact=quantized", "--set", "serve.port=18765"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        ready = json.loads(server.stdout.readline())
        assert ready["artifact"] == "quantized"
        asked = {"instruction": "感冒了要吃抗生素吗？", "max_new_tokens": 24, "temperature": 0}
        answer = _post(f"{ready['url']}/generate", asked)
        assert answer["output"]
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


def _post(url: str, body: dict) -> dict:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.loads(response.read())
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def _tune_on(width: str, folder: Path) -> list[float]:
    pytest.importorskip("bitsandbytes")
    recipe = real_recipe(folder, f"model: {{{{load_in_{width}: true}}}}")
    for stage in ("clean", "prepare", "train"):
        burnish(stage, str(recipe), "--json", folder=folder)
    lines = (folder / "runs/real/3-train/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train/loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.model
def test_an_8_bit_base_is_tuned(tmp_path):
    losses = _tune_on("8bit", tmp_path)
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.model
def test_a_4_bit_base_is_tuned(tmp_path):
    losses = _tune_on("4bit", tmp_path)
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmark files are not on this machine")
def test_two_mmlu_subjects_and_truthfulqa(real_run):
    pytest.importorskip("lm_eval")
    folder, recipe, _ = real_run
    tasks = ["mmlu_anatomy", "mmlu_virology", "truthfulqa_mc1"]
    report = json.loads(
        burnish(
            "evaluate",
            str(recipe),
            "--json",
            *("--set", f"evaluate.tasks={json.dumps(tasks)}"),
            *("--set", "evaluate.limit=4"),
            *("--set", f"evaluate.benchmarks_folder={BENCHMARKS}"),
            folder=folder,
        )
    )
    for task in tasks:
        for model in ("base", "adapter"):
            scores = report["benchmarks"][task][model]
            assert 0 <= scores["acc"] <= 1
            assert scores["acc_stderr"] > 0
