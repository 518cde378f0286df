"""The train stage: train/ and validation/ -> adapter/, metrics.jsonl and loss.png."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.errors import MissingExtraError, TrainingError, naming
from burnish.labels.verdict import check_audit
from burnish.models.loading import trains_in_bf16
from burnish.models.memory import is_out_of_memory, trim_heap
from burnish.models.names import find_model
from burnish.parity.checks import check_base, check_rows, check_run
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir, write_jsonl
from burnish.training.trackers import check_trackers, open_trackers

if TYPE_CHECKING:
    from burnish.training.starting_point import Start
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
    mfu: float | None
    skipped_steps: int
    peak_memory_gib: float
    trainable_parameters: int
    dtype: str


def train(model: ModelSection, section: TrainSection, run: RunDir) -> TrainReport:
    """Trains on the prepared examples by the recipe's method; takes up the last good checkpoint.

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
    from burnish.training import ranks
    from burnish.training.checkpoint import writing
    from burnish.training.journal import METRICS_NAME, read_lines
    from burnish.training.methods import save_trained
    from burnish.training.metrics import PLOT_NAME, Reporter, plot_losses

    metrics_path = run.folder("train") / METRICS_NAME
    reporter = Reporter(metrics_path)
    ranks.from_first(lambda: check(model, section, run))
    trainer, start, dtype = ready(model, section, run, reporter)
    names = section.report_to if ranks.is_first() else []
    told = {"model": model.model_dump(mode="json"), "train": section.model_dump(mode="json")}
    with open_trackers(names, run.trackers, run.checkpoints, told) as listener:
        reporter.listeners.append(listener)
        go(trainer, start, reporter, run)
    with writing(run.folder("train"), run.checkpoints):
        save_trained(trainer.save_adapter, section, run, is_first=ranks.is_first())
    metrics = ranks.from_first(lambda: read_lines(metrics_path))
    if ranks.is_first():
        plot_losses(metrics, run.folder("train") / PLOT_NAME)
    return _report(trainer, metrics, run, dtype=dtype, mfu=reporter.mfu())


def ready(
    model: ModelSection, section: TrainSection, run: RunDir, reporter: Any
) -> tuple[BurnishTrainer, Start | None, str]:
    """A trainer with what it goes on from, if anything, and the name of the type it computes in.

    Raises:
        TrainingError: the last checkpoint was made from something else.
    """
    from burnish.training import ranks
    from burnish.training.agreement import agreement
    from burnish.training.assembly import build
    from burnish.training.starting_point import find_start, pinned

    made_from = ranks.from_first(lambda: agreement(model, section, run))
    start = ranks.from_first(lambda: find_start(run.checkpoints, made_from, section))
    section = pinned(section, start)
    bf16 = ranks.from_first(lambda: trains_in_bf16(section.bf16))
    section = section.model_copy(update={"bf16": bf16})
    trainer = build(model, section, run, reporter)
    dtype = "bfloat16" if bf16 else "float32"
    trainer.begin(start, section, made_from, dtype=dtype)
    return trainer, start, dtype


def check(model: ModelSection, section: TrainSection, run: RunDir) -> None:
    """All that may forbid training before a model is loaded."""
    from datasets import load_from_disk

    from burnish.training.methods import check_settings

    check_trackers(section.report_to)
    check_settings(model, section)
    tokenizer = load_tokenizer(run.tokenizer, model)
    certificate = check_run(model, run, tokenizer)
    check_base(certificate, model, find_model(model))
    check_rows(certificate, load_from_disk(str(run.split("train"))), tokenizer, "train")
    check_audit(run, model, section.lora, all_learns=section.method == "full")


def go(trainer: BurnishTrainer, start: Start | None, reporter: Any, run: RunDir) -> None:
    """Trains to the end, or until somebody asks to stop; that ends with exit code 75."""
    _rewind_journals(trainer, start, run)
    trim_heap()  # of what loading and trying out took
    try:
        with warnings.catch_warnings(), trainer.stop.listening(), naming(str(run.folder("train"))):
            warnings.simplefilter("ignore", UserWarning)
            trainer.train(resume_from_checkpoint=str(start.folder) if start else None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
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


def _rewind_journals(trainer: BurnishTrainer, start: Start | None, run: RunDir) -> None:
    """Takes out of the journals what was written after the checkpoint that the run goes on from."""
    from burnish.training import ranks
    from burnish.training.journal import HEALTH_NAME, METRICS_NAME, SAMPLES_NAME, read_lines

    names = (METRICS_NAME, HEALTH_NAME, SAMPLES_NAME)
    trainer.journals = [run.folder("train") / name for name in names]
    if start:
        say(f"going on from {start.folder.name}")
    if ranks.is_first():
        for path in trainer.journals:
            kept = start.record["lines"].get(path.name, 0) if start else 0
            if path.exists() or path.name == METRICS_NAME:
                write_jsonl(path, read_lines(path)[:kept])


def _report(
    trainer: BurnishTrainer,
    metrics: list[dict[str, Any]],
    run: RunDir,
    *,
    dtype: str,
    mfu: float | None,
) -> TrainReport:
    from burnish.training.metrics import peak_memory_gib

    counters = trainer.counters
    losses = [line["validation/loss"] for line in metrics if "validation/loss" in line]
    best = trainer.state.best_metric if trainer.args.load_best_model_at_end else None
    kept = best if best is not None else (losses[-1] if losses else None)
    return TrainReport(
        adapter=str(run.trained),
        steps=trainer.state.global_step,
        train_loss=counters.loss / max(trainer.state.global_step - counters.skipped, 1),
        validation_loss=kept,
        best_step=trainer.state.best_global_step if best is not None else None,
        supervised_tokens=counters.supervised_tokens,
        useful_tokens_per_second=round(counters.tokens / max(counters.seconds, 1e-9), 1),
        mfu=mfu,
        skipped_steps=counters.skipped,
        peak_memory_gib=round(peak_memory_gib(), 3),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        dtype=dtype,
    )
