"""The train stage: train/ and validation/ -> adapter/, metrics.jsonl and loss.png."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.errors import MissingExtraError, RecipeError, TrainingError
from burnish.labels.verdict import check_audit
from burnish.models.loading import load_base, pick_dtype, set_threads, steady_heap, warm_heap
from burnish.models.names import find_model
from burnish.parity.checks import check_base, check_rows, check_run
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir, replace_folder

if TYPE_CHECKING:
    from burnish.training.backends import Backend
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
        TrainingError: the audit of the labels found errors, the loss or a gradient is not finite,
            or no gradient arrives.
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
    _check_trackers(section)
    _check_prompts(model, run)
    check_audit(run, model, section.lora)
    trainer = build(model, section, run, reporter)
    _run(trainer, reporter, run, metrics_path)
    beside = run.adapter.with_name(".adapter.incomplete")
    trainer.model.save_pretrained(str(beside))
    replace_folder(beside, run.adapter)
    metrics = read_metrics(metrics_path)
    plot_losses(metrics, run.folder("train") / "loss.png")
    return _report(
        trainer, metrics, run, dtype=_dtype_name(pick_dtype(section.bf16, training=True))
    )


def _check_prompts(model: ModelSection, run: RunDir) -> None:
    from datasets import load_from_disk

    tokenizer = load_tokenizer(run.tokenizer, model)
    certificate = check_run(model, run, tokenizer)
    check_base(certificate, model, find_model(model))
    check_rows(certificate, load_from_disk(str(run.split("train"))), tokenizer, "train")


def build(model: ModelSection, section: TrainSection, run: RunDir, reporter: Any) -> BurnishTrainer:
    """The trainer of a run, with base, fresh adapter and prepared examples in it."""
    from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, set_seed

    from burnish.training.adapter import add_adapter
    from burnish.training.backends import choose_backend
    from burnish.training.loss import LossTerms
    from burnish.training.steps import StepBatches
    from burnish.training.trainer import BurnishTrainer, Packing

    threads = set_threads()
    dtype = pick_dtype(section.bf16, training=True)
    set_seed(section.seed)
    base = load_base(find_model(model), model, dtype=dtype)
    peft_model = add_adapter(
        base, section.lora, gradient_checkpointing=bool(section.gradient_checkpointing)
    )
    trainable = sum(p.numel() for p in peft_model.parameters() if p.requires_grad)
    say(
        f"training {trainable:,} adapter weights in float32 on a base in {_width(model, dtype)}, "
        f"device {base.device}, {threads} threads"
    )
    train_set, validation = _examples(run)
    backend = choose_backend(
        peft_model,
        _records(train_set.select(range(min(len(train_set), 16)))),
        wanted=section.backend,
        terms=LossTerms(section.label_smoothing_factor, section.z_loss),
        num_recomputed=_num_recomputed(section, peft_model),
        packs=section.packing,
    )
    (warm_heap if backend.name == "fast" else steady_heap)()
    _say_backend(backend)
    callbacks: list[Any] = [reporter]
    if section.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(section.early_stopping_patience))
    trainer = BurnishTrainer(
        model=peft_model,
        args=training_arguments(section, run.checkpoints, has_validation=bool(validation)),
        train_dataset=train_set,
        eval_dataset=train_set if validation else None,
        callbacks=callbacks,
        validation=validation,
        keep=section.save_total_limit,
        backend=backend,
        packing=Packing(section.row_length, section.packing, section.share_prefixes),
        steps=StepBatches(
            [len(ids) for ids in train_set["input_ids"]],
            records=section.per_device_train_batch_size * section.gradient_accumulation_steps,
            tokens=section.tokens_per_step,
            seed=section.seed,
        ),
    )
    for stock in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(stock)
    reporter.watch(trainer)
    return trainer


def _say_backend(backend: Backend) -> None:
    if backend.name == "fast":
        say("rows go through the fast path, which agrees with the model's own forward")
    else:
        say(f"rows go through the model's own forward: {backend.why}")


def _num_recomputed(section: TrainSection, model: Any) -> int:
    """How many layers recompute their activations."""
    wanted = section.gradient_checkpointing
    if not isinstance(wanted, bool):
        return wanted
    return int(model.get_base_model().config.get_text_config().num_hidden_layers) if wanted else 0


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
            "backend",
            "packing",
            "row_length",
            "share_prefixes",
            "tokens_per_step",
            "z_loss",
            "label_smoothing_factor",
            "gradient_checkpointing",
            "warmup_ratio",
            "early_stopping_patience",
            "save_total_limit",
            "metric_for_best_model",
            "greater_is_better",
        }
    )
    settings[_checkpointing_name()] = bool(section.gradient_checkpointing)
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
        remove_unused_columns=False,
        restore_callback_states_from_checkpoint=True,
        logging_nan_inf_filter=False,
        use_cpu=_on_cpu(),
        dataloader_pin_memory=not _on_cpu(),
        disable_tqdm=True,
        **settings | {"gradient_accumulation_steps": 1},
    )


def _checkpointing_name() -> str:
    """What this version of transformers calls gradient checkpointing."""
    from transformers import TrainingArguments

    new = "activation_checkpointing"
    return new if hasattr(TrainingArguments, new) else "gradient_checkpointing"


def _on_cpu() -> bool:
    import torch

    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def _examples(run: RunDir) -> tuple[Any, list[tuple[list[int], list[int]]]]:
    from datasets import load_from_disk

    train_set = load_from_disk(str(run.split("train"))).select_columns(["input_ids", "labels"])
    return train_set, _records(load_from_disk(str(run.split("validation"))))


def _records(rows: Any) -> list[tuple[list[int], list[int]]]:
    return list(zip(rows["input_ids"], rows["labels"], strict=True))


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
            "Lower train.row_length (the same training in smaller pieces), set "
            "train.gradient_checkpointing: true, lower prepare.max_length, or set "
            "model.load_in_4bit: true.",
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
