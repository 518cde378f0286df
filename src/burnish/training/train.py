"""The train stage: train/ and validation/ -> adapter/, metrics.jsonl and loss.png."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.errors import MissingExtraError, RecipeError, TrainingError
from burnish.models.loading import load_base, pick_dtype, set_threads
from burnish.models.names import find_model
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir, replace_folder

if TYPE_CHECKING:
    from burnish.training.trainer import BurnishTrainer


class TrainReport(BaseModel):
    """What training reached, and what it took."""

    model_config = ConfigDict(frozen=True)

    adapter: str
    steps: int
    train_loss: float = Field(serialization_alias="train/loss")
    validation_loss: float | None = Field(serialization_alias="validation/loss")
    best_step: int | None
    supervised_tokens: int
    useful_tokens_per_second: float
    peak_memory_gib: float
    trainable_parameters: int
    dtype: str


def train(model: ModelSection, section: TrainSection, run: RunDir) -> TrainReport:
    """Trains a LoRA adapter on the prepared examples; takes up the last good checkpoint, if any.

    Raises:
        TrainingError: the loss or a gradient is not finite, or no gradient arrives.
        ModelError: the base can't be loaded.
    """
    try:
        import accelerate  # noqa: F401
        import peft  # noqa: F401
    except ImportError:
        raise MissingExtraError("peft and accelerate", "train") from None
    from burnish.training.metrics import METRICS_NAME, Reporter, plot_losses, read_metrics

    metrics_path = run.folder("train") / METRICS_NAME
    reporter = Reporter(metrics_path)
    trainer = _build(model, section, run, reporter)
    _run(trainer, reporter, run, metrics_path)
    beside = run.adapter.with_name(".adapter.incomplete")
    trainer.model.save_pretrained(str(beside))
    replace_folder(beside, run.adapter)
    metrics = read_metrics(metrics_path)
    plot_losses(metrics, run.folder("train") / "loss.png")
    return _report(trainer, metrics, run, dtype=_dtype_name(pick_dtype(section.bf16)))


def _build(
    model: ModelSection, section: TrainSection, run: RunDir, reporter: Any
) -> BurnishTrainer:
    from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, set_seed

    from burnish.training.adapter import add_adapter
    from burnish.training.trainer import BurnishTrainer

    _check_trackers(section)
    threads = set_threads()
    dtype = pick_dtype(section.bf16)
    set_seed(section.seed)
    base = load_base(find_model(model), model, dtype=dtype)
    peft_model = add_adapter(
        base, section.lora, gradient_checkpointing=section.gradient_checkpointing
    )
    trainable = sum(p.numel() for p in peft_model.parameters() if p.requires_grad)
    say(
        f"training {trainable:,} adapter weights in float32 on a base in {_width(model, dtype)}, "
        f"device {base.device}, {threads} threads"
    )
    train_set, validation = _examples(run)
    callbacks: list[Any] = [reporter]
    if section.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(section.early_stopping_patience))
    trainer = BurnishTrainer(
        model=peft_model,
        args=training_arguments(section, run.checkpoints, has_validation=bool(validation)),
        train_dataset=train_set,
        eval_dataset=train_set if validation else None,
        data_collator=_collate,
        callbacks=callbacks,
        validation=validation,
        keep=section.save_total_limit,
    )
    for stock in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(stock)
    reporter.watch(trainer)
    return trainer


def _check_trackers(section: TrainSection) -> None:
    for name in section.report_to:
        # TensorBoard's writer also comes in a package of its own.
        packages = ["tensorboard", "tensorboardX"] if name == "tensorboard" else [name]
        if not any(importlib.util.find_spec(package) for package in packages):
            raise RecipeError(
                "train.report_to",
                f"the package of {name} is not installed.",
                f"Install it with: pip install {name}, or take {name} out of the list.",
            )


def training_arguments(section: TrainSection, output_dir: Path, *, has_validation: bool) -> Any:
    """Hugging Face's TrainingArguments for a recipe; without validation rows nothing evaluates."""
    from transformers import TrainingArguments

    if not has_validation and section.eval_strategy != "no":
        say("there are no validation rows, so nothing is evaluated and the last adapter is kept")
    settings = section.model_dump(
        exclude={
            "lora",
            "bf16",
            "gradient_checkpointing",
            "warmup_ratio",
            "early_stopping_patience",
            "save_total_limit",
            "metric_for_best_model",
            "greater_is_better",
        }
    )
    settings[_checkpointing_name()] = section.gradient_checkpointing
    settings["warmup_steps"] = section.warmup_steps or section.warmup_ratio
    settings["report_to"] = section.report_to or "none"
    best = has_validation and section.load_best_model_at_end
    settings["load_best_model_at_end"] = best
    if not has_validation:
        settings |= {"eval_strategy": "no", "eval_steps": None}
    return TrainingArguments(
        output_dir=str(output_dir),
        metric_for_best_model="eval_loss" if has_validation else None,
        greater_is_better=False if has_validation else None,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        remove_unused_columns=False,
        restore_callback_states_from_checkpoint=True,
        logging_nan_inf_filter=False,
        use_cpu=_on_cpu(),
        dataloader_pin_memory=not _on_cpu(),
        disable_tqdm=True,
        **settings,
    )


def _checkpointing_name() -> str:
    """What this version of transformers calls gradient checkpointing."""
    from transformers import TrainingArguments

    new = "activation_checkpointing"
    return new if hasattr(TrainingArguments, new) else "gradient_checkpointing"


def _on_cpu() -> bool:
    import torch

    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from burnish.scoring import collate

    return collate([(row["input_ids"], row["labels"]) for row in rows])


def _examples(run: RunDir) -> tuple[Any, list[tuple[list[int], list[int]]]]:
    from datasets import load_from_disk

    train_set = load_from_disk(str(run.split("train"))).select_columns(["input_ids", "labels"])
    lengths = [len(ids) for ids in train_set["input_ids"]]
    train_set = train_set.add_column("length", lengths)
    validation = load_from_disk(str(run.split("validation")))
    return train_set, list(zip(validation["input_ids"], validation["labels"], strict=True))


def _run(trainer: BurnishTrainer, reporter: Any, run: RunDir, metrics_path: Path) -> None:
    from burnish.training.checkpoint import last_good, step_of
    from burnish.training.metrics import rewind_metrics

    start = last_good(run.checkpoints)
    rewind_metrics(metrics_path, step_of(start) if start else 0)
    if start:
        say(f"going on from {start.name}")
        trainer.restore_counters(start)
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("SWANLAB_MODE", "offline")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            trainer.train(resume_from_checkpoint=str(start) if start else None)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise TrainingError(
            f"step {trainer.state.global_step + 1}",
            "memory ran out.",
            "Halve train.per_device_train_batch_size and double "
            "train.gradient_accumulation_steps, set train.gradient_checkpointing: true, lower "
            "prepare.max_length, or set model.load_in_4bit: true.",
        ) from None
    finally:
        reporter.close()


def _width(model: ModelSection, dtype: Any) -> str:
    if model.load_in_4bit:
        return f"4 bits (computing in {_dtype_name(dtype)})"
    if model.load_in_8bit:
        return f"8 bits (computing in {_dtype_name(dtype)})"
    return _dtype_name(dtype)


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _report(
    trainer: BurnishTrainer, metrics: list[dict[str, Any]], run: RunDir, *, dtype: str
) -> TrainReport:
    from burnish.training.metrics import peak_memory_gib

    counters = trainer.counters
    losses = [line["validation/loss"] for line in metrics if "validation/loss" in line]
    best = trainer.state.best_metric if trainer.args.load_best_model_at_end else None
    kept = best if best is not None else (losses[-1] if losses else None)
    return TrainReport(
        adapter=str(run.adapter),
        steps=trainer.state.global_step,
        train_loss=counters.loss / max(trainer.state.global_step, 1),
        validation_loss=kept,
        best_step=trainer.state.best_global_step if best is not None else None,
        supervised_tokens=counters.supervised_tokens,
        useful_tokens_per_second=round(counters.tokens / max(counters.seconds, 1e-9), 1),
        peak_memory_gib=round(peak_memory_gib(), 3),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        dtype=dtype,
    )
