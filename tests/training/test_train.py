"""The train stage: settings that reach the run, resume, and runs that must not go on."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from burnish.errors import RecipeError, TrainingError
from burnish.pipeline import STAGE_BY_NAME, run_stage
from burnish.recipe import TrainSection
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from burnish.training import metrics as metrics_module
from burnish.training.arguments import training_arguments
from burnish.training.checkpoint import checkpoints
from burnish.training.journal import read_lines
from burnish.training.train import train
from tests.conftest import write_recipe

TRAIN = {
    "num_train_epochs": 3,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "logging_steps": 1,
    "bf16": False,  # `auto` would go by the machine
    "lora": {"r": 2, "lora_dropout": 0.1},
}

STILL = {"learning_rate": 1e-12, "lr_scheduler_type": "constant"}
"""A rate so low that the loss does not move: the first of equal evaluations is the best."""


def prepared(folder, model, train_settings=None, prepare="validation_size: 0.2, test_size: 0.2"):
    """A recipe whose clean and prepare stages are done; 25 rows to train on, 4 steps an epoch."""
    folder.mkdir(exist_ok=True)
    text = (
        "run_dir: {folder}/run\n"
        f"model: {{{{name_or_path: {model}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        f"prepare: {{{{max_length: 128, seed: 1, {prepare}}}}}\n"
    )
    settings = json.dumps({**TRAIN, **(train_settings or {})})
    loaded = load_recipe(write_recipe(folder, text), [f"train={settings}"])
    for name in ("clean", "prepare"):
        run_stage(name, loaded)
    return loaded


def go(loaded):
    run = RunDir(loaded.run_dir)
    return train(loaded.recipe.model, loaded.recipe.train, run), run


def arguments(tmp_path, *, has_validation=True, **settings):
    return training_arguments(TrainSection(**settings), tmp_path, has_validation=has_validation)


def stop_at(monkeypatch, step):
    """Presses Ctrl-C at the end of a step."""
    original = metrics_module.Reporter.on_step_end

    def on_step_end(self, args, state, control, **rest):
        original(self, args, state, control, **rest)
        if state.global_step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(metrics_module.Reporter, "on_step_end", on_step_end)


# --- settings --------------------------------------------------------------------------------


def test_settings_reach_hugging_faces_arguments_under_their_own_names(tmp_path):
    args = arguments(
        tmp_path,
        num_train_epochs=1.5,
        per_device_train_batch_size=3,
        per_device_eval_batch_size=5,
        gradient_accumulation_steps=7,
        learning_rate=3e-4,
        weight_decay=0.1,
        lr_scheduler_type="linear",
        max_grad_norm=0.5,
        optim="adafactor",
        seed=7,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="steps",
        save_steps=10,
        logging_steps=2,
    )
    assert (args.num_train_epochs, args.learning_rate, args.weight_decay) == (1.5, 3e-4, 0.1)
    assert (args.per_device_train_batch_size, args.per_device_eval_batch_size) == (3, 5)
    # A step's records come as one batch; the trainer itself accumulates over its rows.
    assert (args.gradient_accumulation_steps, args.max_grad_norm) == (1, 0.5)
    assert (args.lr_scheduler_type.value, args.optim.value) == ("linear", "adafactor")
    assert (args.seed, args.eval_steps, args.save_steps, args.logging_steps) == (7, 5, 10, 2)
    assert (args.eval_strategy.value, args.save_strategy.value) == ("steps", "steps")
    assert args.load_best_model_at_end
    assert (args.metric_for_best_model, args.greater_is_better) == ("eval_loss", False)
    assert args.report_to == []


@pytest.mark.parametrize(
    "settings, of_200",
    [
        ({}, 6),  # 0.03 of 200
        ({"warmup_ratio": 0.1}, 20),
        ({"warmup_ratio": 0.0}, 0),
        ({"warmup_steps": 1}, 1),
        ({"warmup_steps": 50, "warmup_ratio": 0.1}, 50),
    ],
)
def test_warm_up_is_a_share_of_the_steps_unless_steps_are_named(tmp_path, settings, of_200):
    assert arguments(tmp_path, **settings).get_warmup_steps(200) == of_200


@pytest.mark.parametrize("wanted", [True, "auto", 3])
def test_the_trainers_own_checkpointing_of_all_layers_stays_off(tmp_path, wanted, recwarn):
    args = arguments(tmp_path, gradient_checkpointing=wanted)
    assert args.gradient_checkpointing is False
    assert not [w for w in recwarn if "checkpointing" in str(w.message)]


def test_without_validation_rows_nothing_evaluates_and_no_best_is_sought(tmp_path, capfd):
    args = arguments(tmp_path, has_validation=False)
    assert args.eval_strategy.value == "no"
    assert not args.load_best_model_at_end
    assert "no validation rows" in capfd.readouterr().err


def test_the_learning_rate_warms_up_and_falls_as_the_scheduler_says(tmp_path, tiny_model):
    settings = {"lr_scheduler_type": "linear", "warmup_steps": 2, "max_steps": 6}
    _, run = go(prepared(tmp_path, tiny_model, settings))
    lines = read_lines(run.folder("train") / "metrics.jsonl")
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates == pytest.approx([0.0, 0.005, 0.01, 0.0075, 0.005, 0.0025])


def test_weight_decay_and_seed_change_the_adapter(tmp_path, tiny_model):
    def adapter(name, **settings):
        _, run = go(prepared(tmp_path / name, tiny_model, {"max_steps": 3, **settings}))
        return (run.adapter / "adapter_model.safetensors").read_bytes()

    first = adapter("a")
    assert adapter("b") == first
    assert adapter("c", weight_decay=0.5) != first
    assert adapter("d", seed=43) != first


# --- a whole run -----------------------------------------------------------------------------


def test_a_run_reports_what_its_files_hold(tmp_path, tiny_model):
    report, run = go(prepared(tmp_path, tiny_model))
    folder = run.folder("train")
    lines = read_lines(folder / "metrics.jsonl")
    train_losses = [line["train/loss"] for line in lines if "train/loss" in line]
    validation = {
        line["step"]: line["validation/loss"] for line in lines if "validation/loss" in line
    }
    assert len(train_losses) == report.steps == 12
    assert report.train_loss == pytest.approx(sum(train_losses) / 12, abs=1e-3)
    assert list(validation) == [4, 8, 12]
    assert report.validation_loss == pytest.approx(min(validation.values()))
    assert report.best_step == min(validation, key=validation.get)
    assert min(validation.values()) < 5.5
    assert report.supervised_tokens == 3 * 25 * 10  # "Answer N." and its stop token
    assert report.dtype == "float32"
    assert report.trainable_parameters == 2 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
    assert (folder / "loss.png").is_file()
    assert (run.adapter / "adapter_config.json").is_file()
    assert not list(folder.rglob("*.incomplete"))
    data = report.model_dump(by_alias=True)
    assert {"train/loss", "validation/loss"} <= data.keys()


def test_save_total_limit_keeps_the_best_and_the_newest_checkpoint(tmp_path, tiny_model):
    settings = {**STILL, "save_total_limit": 2}
    report, run = go(prepared(tmp_path, tiny_model, settings))
    kept = [p.name for p in checkpoints(run.checkpoints)]
    assert report.best_step == 4
    assert kept == ["checkpoint-4", "checkpoint-12"]


def test_the_best_adapter_is_kept_or_the_last_one_as_the_recipe_says(tmp_path, tiny_model):
    def tuned(name, **more):
        report, run = go(prepared(tmp_path / name, tiny_model, {**STILL, **more}))
        weights = load_file(run.adapter / "adapter_model.safetensors")
        return report, run, weights

    report, run, best = tuned("best")
    assert report.best_step == 4
    folder = run.checkpoints / f"checkpoint-{report.best_step}"
    torch.testing.assert_close(best, load_file(folder / "adapter_model.safetensors"))
    report, run, last = tuned("last", load_best_model_at_end=False)
    assert report.best_step is None
    folder = run.checkpoints / "checkpoint-12"
    torch.testing.assert_close(last, load_file(folder / "adapter_model.safetensors"))


def test_early_stopping_ends_the_run_after_evaluations_that_are_no_better(tmp_path, tiny_model):
    settings = {**STILL, "num_train_epochs": 20, "early_stopping_patience": 2}
    report, _ = go(prepared(tmp_path, tiny_model, settings))
    assert (report.best_step, report.steps) == (4, 12)


def test_an_empty_validation_split_trains_without_evaluation(tmp_path, tiny_model):
    loaded = prepared(tmp_path, tiny_model, prepare="validation_size: 0, test_size: 0.2")
    report, run = go(loaded)
    assert report.validation_loss is None
    assert report.best_step is None
    lines = read_lines(run.folder("train") / "metrics.jsonl")
    assert not any("validation/loss" in line for line in lines)


@pytest.mark.parametrize("settings", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_bfloat16_and_gradient_checkpointing_work_on_any_machine(tmp_path, tiny_model, settings):
    report, _ = go(prepared(tmp_path, tiny_model, {"max_steps": 2, **settings}))
    assert report.dtype == ("bfloat16" if "bf16" in settings else "float32")
    assert report.train_loss == pytest.approx(5.54, abs=0.2)


# --- the loop --------------------------------------------------------------------------------


def losses(run):
    lines = read_lines(run.folder("train") / "metrics.jsonl")
    names = ("train/loss", "validation/loss")
    return [line[name] for line in lines for name in names if name in line]


LOOPS = [
    {"backend": "transformers"},
    {"backend": "fast"},
    {"packing": False},
    {"row_length": 130},
    {"share_prefixes": False},
    {"gradient_checkpointing": 1},
]


def test_how_rows_are_made_and_computed_does_not_change_the_losses(tmp_path, tiny_model, capfd):
    _, run = go(prepared(tmp_path / "plain", tiny_model, FAST | {"num_train_epochs": 1}))
    assert "rows go through the fast path" in capfd.readouterr().err
    expected = losses(run)
    assert len(expected) == 5
    for number, settings in enumerate(LOOPS):
        loaded = prepared(
            tmp_path / str(number), tiny_model, FAST | {"num_train_epochs": 1} | settings
        )
        _, run = go(loaded)
        assert losses(run) == pytest.approx(expected, abs=1e-4)
        own = "rows go through the model's own forward: the recipe says so"
        assert (own in capfd.readouterr().err) == ("transformers" in settings.values())


def test_a_run_says_why_it_does_not_take_the_fast_path(tmp_path, tiny_model, capfd):
    go(prepared(tmp_path, tiny_model, {"max_steps": 1}))
    said = capfd.readouterr().err
    assert "rows go through the model's own forward: lora.lora_dropout is not 0" in said


def test_a_fast_path_that_cannot_be_taken_stops_a_run_that_asks_for_it(tmp_path, tiny_model):
    with pytest.raises(RecipeError, match="backend: fast computes plain LoRA alone"):
        go(prepared(tmp_path, tiny_model, {"backend": "fast"}))


def test_a_step_counted_in_tokens_has_about_so_many(tmp_path, tiny_model):
    settings = FAST | {"num_train_epochs": 1, "tokens_per_step": 300}
    report, run = go(prepared(tmp_path, tiny_model, settings))
    from datasets import load_from_disk

    tokens = sum(len(ids) for ids in load_from_disk(str(run.split("train")))["input_ids"])
    assert report.steps == -(-tokens // 300)
    assert report.supervised_tokens == 25 * 10


# --- trackers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wandb", "swanlab", "mlflow", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused_before_the_model_is_loaded(
    tmp_path, monkeypatch, name
):
    real = importlib.util.find_spec
    missing = {name, "tensorboardX"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n in missing else real(n, *a)
    )
    from burnish.recipe import ModelSection

    section = TrainSection(report_to=[name])
    with pytest.raises(
        RecipeError, match=f"train.report_to: the package of {name} is not"
    ) as caught:
        train(ModelSection(name_or_path="/no/such/model"), section, RunDir(tmp_path))
    assert f"pip install {name}" in caught.value.remedy


def test_tensorboard_gets_the_losses_where_it_is_installed(tmp_path, tiny_model):
    pytest.importorskip("tensorboard")
    _, run = go(prepared(tmp_path, tiny_model, {"max_steps": 2, "report_to": ["tensorboard"]}))
    assert list(run.path.rglob("events.out.tfevents*"))


# --- health and samples ----------------------------------------------------------------------


def test_samples_are_written_at_each_evaluation_and_change_nothing_of_the_adapter(
    tmp_path, tiny_model
):
    _, plain = go(prepared(tmp_path / "plain", tiny_model, {"num_train_epochs": 2}))
    settings = {"num_train_epochs": 2, "samples": 2, "samples_max_new_tokens": 6}
    _, run = go(prepared(tmp_path / "sampled", tiny_model, settings))
    name = "adapter_model.safetensors"
    assert (run.adapter / name).read_bytes() == (plain.adapter / name).read_bytes()
    lines = read_lines(run.folder("train") / "samples.jsonl")
    assert [line["step"] for line in lines] == [4, 4, 8, 8]
    assert len({line["origin"] for line in lines}) == 2
    assert all(line["reference"].startswith("Answer") for line in lines)
    assert not (plain.folder("train") / "samples.jsonl").exists()


def test_a_row_that_is_not_finite_is_named_by_file_and_line(tmp_path, tiny_model, monkeypatch):
    from burnish.training.accumulation import Accumulation

    loaded = prepared(tmp_path, tiny_model)
    from datasets import load_from_disk

    row = load_from_disk(str(RunDir(loaded.run_dir).split("train")))[7]
    for name in ("backward", "loss_sum"):
        original = getattr(Accumulation, name)

        def spoilt(self, records, _original=original, **rest):
            result = _original(self, records, **rest)
            return result * (float("nan") if row["input_ids"] in [r[0] for r in records] else 1)

        monkeypatch.setattr(Accumulation, name, spoilt)
    with pytest.raises(TrainingError) as caught:
        go(loaded)
    assert caught.value.problem.endswith(f"Not finite alone: {row['origin']}.")
    assert row["origin"].startswith("rows.json:")


def test_the_share_of_the_limit_is_in_the_lines_and_the_report(tmp_path, tiny_model, capfd):
    report, run = go(prepared(tmp_path, tiny_model, {"max_steps": 2}))
    lines = read_lines(run.folder("train") / "metrics.jsonl")
    assert all(0 < line["mfu"] < 1.5 for line in lines if "train/loss" in line)
    assert 0 < report.mfu < 1.5
    assert report.skipped_steps == 0
    assert f"{report.mfu:.0%} of what matrix products alone would allow" in capfd.readouterr().err


def test_a_threshold_stops_a_run_whose_loss_falls_too_little(tmp_path, tiny_model, capfd):
    settings = {"num_train_epochs": 5, "early_stopping_patience": 1}
    whole, _ = go(prepared(tmp_path / "whole", tiny_model, settings))
    assert whole.steps == 20
    settings |= {"early_stopping_threshold": 100.0}
    stopped, _ = go(prepared(tmp_path / "stopped", tiny_model, settings))
    assert stopped.steps == 8
    assert "step 8: training ends here, because the last evaluation" in capfd.readouterr().err


# --- runs that end early ---------------------------------------------------------------------


FAST = {"lora": {"r": 2}}
"""Without dropout the tiny model takes the fast path."""


@pytest.mark.parametrize("step, settings", [(6, {}), (9, FAST), (6, {"tokens_per_step": 200})])
def test_an_interrupted_run_goes_on_to_the_very_same_adapter(
    tmp_path, tiny_model, monkeypatch, capfd, step, settings
):
    settings = {"save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 4, **settings}
    settings |= {"save_steps": 4, "max_steps": 12}
    whole, whole_run = go(prepared(tmp_path / "whole", tiny_model, settings))
    loaded = prepared(tmp_path / "cut", tiny_model, settings)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            go(loaded)
    capfd.readouterr()
    resumed, run = go(loaded)
    assert f"going on from checkpoint-{step // 4 * 4}" in capfd.readouterr().err
    name = "adapter_model.safetensors"
    assert (run.adapter / name).read_bytes() == (whole_run.adapter / name).read_bytes()
    changing = {"adapter", "useful_tokens_per_second", "peak_memory_gib", "mfu"}
    assert resumed.model_dump(exclude=changing) == whole.model_dump(exclude=changing)
    steps = [
        [line["step"] for line in read_lines(r.folder("train") / "metrics.jsonl")]
        for r in (run, whole_run)
    ]
    assert steps[0] == steps[1]


def test_a_corrupt_newest_checkpoint_is_passed_over_with_a_warning(
    tmp_path, tiny_model, monkeypatch, capfd
):
    _, whole_run = go(prepared(tmp_path / "whole", tiny_model))
    loaded = prepared(tmp_path / "cut", tiny_model)
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        with pytest.raises(KeyboardInterrupt):
            go(loaded)
    run = RunDir(loaded.run_dir)
    weights = run.checkpoints / "checkpoint-8" / "optimizer.pt"
    harmed = bytearray(weights.read_bytes())
    harmed[len(harmed) // 2] ^= 1
    weights.write_bytes(harmed)
    go(loaded)
    said = capfd.readouterr().err
    assert "warning: checkpoint-8 can't be used: optimizer.pt is not as it was written" in said
    assert "going on from checkpoint-4" in said
    name = "adapter_model.safetensors"
    assert (run.adapter / name).read_bytes() == (whole_run.adapter / name).read_bytes()


def test_a_finished_run_that_is_called_again_trains_nothing_and_reports_the_same(
    tmp_path, tiny_model
):
    loaded = prepared(tmp_path, tiny_model)
    first, run = go(loaded)
    weights = (run.adapter / "adapter_model.safetensors").read_bytes()
    second, _ = go(loaded)
    changing = {"useful_tokens_per_second", "peak_memory_gib", "mfu"}
    assert second.model_dump(exclude=changing) == first.model_dump(exclude=changing)
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == weights


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path, tiny_model, monkeypatch
):
    loaded = prepared(tmp_path, tiny_model)
    from burnish.training.trainer import BurnishTrainer

    original = BurnishTrainer._save_rng_state

    def full_disk(self, folder):
        if self.state.global_step == 8:
            raise OSError(28, "No space left on device")
        original(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(BurnishTrainer, "_save_rng_state", full_disk)
        with pytest.raises(TrainingError, match="No space left"):
            go(loaded)
    run = RunDir(loaded.run_dir)
    assert [p.name for p in run.checkpoints.iterdir()] == ["checkpoint-4"]
    report, _ = go(loaded)
    assert report.steps == 12


def test_a_model_of_nans_ends_in_a_training_error_and_leaves_no_checkpoint(tmp_path, tiny_model):
    from tests.conftest import byte_tokenizer, tiny_llama

    broken = tmp_path / "broken"
    tokenizer = byte_tokenizer()
    model = tiny_llama(len(tokenizer))
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(broken)
    tokenizer.save_pretrained(broken)
    loaded = prepared(tmp_path / "run", broken)
    with pytest.raises(TrainingError, match="the loss is nan") as caught:
        go(loaded)
    assert caught.value.exit_code == 2
    assert "train.learning_rate" in caught.value.remedy
    assert checkpoints(RunDir(loaded.run_dir).checkpoints) == []


def test_memory_that_runs_out_is_told_with_what_to_lower(tmp_path, tiny_model, monkeypatch):
    from burnish.training.trainer import BurnishTrainer

    def out_of_memory(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(BurnishTrainer, "training_step", out_of_memory)
    with pytest.raises(TrainingError, match="step 1: memory ran out") as caught:
        go(prepared(tmp_path, tiny_model))
    assert "train.row_length" in caught.value.remedy


def test_without_peft_the_extra_is_named(tmp_path, tiny_model, monkeypatch):
    from burnish.errors import MissingExtraError
    from burnish.recipe import ModelSection

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"burnish\[train\]"):
        train(ModelSection(name_or_path=str(tiny_model)), TrainSection(), RunDir(tmp_path))


def test_clean_and_train_are_the_stages_that_survive_an_interruption():
    left = {name: stage.unfinished for name, stage in STAGE_BY_NAME.items() if stage.unfinished}
    assert left == {"clean": "parts", "train": "."}


def test_nothing_of_transformers_own_bars_reaches_the_terminal(tmp_path, tiny_model, capfd):
    go(prepared(tmp_path, tiny_model, {"max_steps": 2}))
    said = capfd.readouterr().err
    assert "Loading weights" not in said
    assert "Writing model shards" not in said
    assert "Warning" not in said


def test_training_is_refused_where_the_audit_of_the_labels_found_errors(tiny_recipe):
    run = RunDir(tiny_recipe.run_dir)
    for stage in ("clean", "prepare"):
        run_stage(stage, tiny_recipe)
    path = run.folder("prepare") / "audit.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    finding = {"name": "masked_stop_token", "level": "error", "count": 3}
    finding |= {"what": "not learned", "remedy": "Mend it.", "first": ["x:1"]}
    path.write_text(json.dumps(report | {"findings": [finding]}), encoding="utf-8")
    recipe = tiny_recipe.recipe
    with pytest.raises(TrainingError, match="masked_stop_token in 3 rows, first x:1"):
        train(recipe.model, recipe.train, run)
