"""The train stage: train/ and validation/ -> adapter/, metrics.jsonl and loss.png."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.errors import MissingExtraError, TrainingError, naming
from burnish.labels.verdict import check_audit
from burnish.models.loading import pick_device, pick_dtype, set_threads
from burnish.models.memory import is_out_of_memory, steady_heap, trim_heap, warm_heap
from burnish.models.names import find_model
from burnish.parity.checks import check_base, check_rows, check_run
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir, write_jsonl
from burnish.training.trackers import check_trackers, open_trackers

if TYPE_CHECKING:
    from burnish.training.backends import Backend
    from burnish.training.starting_point import Start
    from burnish.training.trainer import BurnishTrainer


_LEARNING = {
    "lora": "adapter weights",
    "full": "weights, which are all,",
    "freeze": "weights of the model",
}


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
    mfu: float | None = None
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
    ranks.from_first(lambda: _check(model, section, run))
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
    report = _report(trainer, metrics, run, dtype=dtype)
    return report.model_copy(update={"mfu": reporter.mfu()})


def ready(
    model: ModelSection, section: TrainSection, run: RunDir, reporter: Any
) -> tuple[BurnishTrainer, Start | None, str]:
    """A trainer with what it goes on from, if anything, and the name of the type it computes in.

    Raises:
        TrainingError: the last checkpoint was made from something else.
    """
    from burnish.training import ranks
    from burnish.training.agreement import agreement
    from burnish.training.starting_point import find_start, pinned

    made_from = ranks.from_first(lambda: agreement(model, section, run))
    start = ranks.from_first(lambda: find_start(run.checkpoints, made_from, section))
    section = ranks.from_first(lambda: _settled(pinned(section, start)))
    trainer = build(model, section, run, reporter)
    dtype = _dtype_name(pick_dtype(section.bf16, training=True))
    trainer.begin(start, section, made_from, dtype=dtype)
    return trainer, start, dtype


def _check(model: ModelSection, section: TrainSection, run: RunDir) -> None:
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


def _settled(section: TrainSection) -> TrainSection:
    """The settings, with what a probe of this machine says once for all processes."""
    dtype = pick_dtype(section.bf16, training=True)
    return section.model_copy(update={"bf16": _dtype_name(dtype) == "bfloat16"})


def build(model: ModelSection, section: TrainSection, run: RunDir, reporter: Any) -> BurnishTrainer:
    """The trainer of a run, with base, fresh adapter and prepared examples in it."""
    from transformers import PrinterCallback, ProgressCallback, set_seed

    from burnish.training import ranks, sharded
    from burnish.training.arguments import training_arguments
    from burnish.training.headroom import layers_to_recompute
    from burnish.training.health import Health
    from burnish.training.limit import limit_of
    from burnish.training.methods import as_method_computes, computing, keep_start, load_trainable
    from burnish.training.optimizers import make_optimizer
    from burnish.training.recomputing import recomputing
    from burnish.training.steps import StepBatches
    from burnish.training.trainer import BurnishTrainer

    threads = set_threads()
    dtype = pick_dtype(section.bf16, training=True)
    set_seed(section.seed)
    tuned = load_trainable(
        find_model(model), model, section, compute=dtype, device=sharded.base_device()
    )
    ranks.weights_of_first(tuned.parameters())
    if ranks.is_first():
        keep_start(tuned, section, run)
    trainable = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    say(
        f"training {trainable:,} {_LEARNING[section.method]} in float32, on a base in "
        f"{_width(model, dtype)}, device {tuned.device}, {threads} threads"
    )
    train_set, validation = _examples(run)
    tried = _records(train_set.select(range(min(len(train_set), 16))))
    with computing(section, tuned.device, dtype):
        backend = _backend(tuned, model, section, tried)
    backend = as_method_computes(backend, tuned, section, dtype)
    (warm_heap if backend.name == "fast" else steady_heap)()
    _say_backend(backend)
    number = layers_to_recompute(
        model, section, tuned, train_set, backend=backend.name, compute=dtype
    )
    backend = recomputing(backend, tuned, ranks.largest_over_ranks(number))
    if ranks.is_first() and not sharded.is_asked_for():
        reporter.limit = limit_of(tuned, dtype)
    arguments = training_arguments(section, run.checkpoints, has_validation=bool(validation))
    trainer = BurnishTrainer(
        model=tuned,
        args=arguments,
        optimizers=(make_optimizer(tuned, section, arguments), None),
        train_dataset=train_set,
        eval_dataset=train_set if validation else None,
        callbacks=_callbacks(model, section, run, reporter),
        health=Health(_health_path(run), section.bad_steps),
        validation=validation,
        keep=section.save_total_limit,
        accumulation=_accumulation(tuned, backend, section, threads),
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
    ranks.draw_apart(section.seed)
    return trainer


def _callbacks(model: ModelSection, section: TrainSection, run: RunDir, reporter: Any) -> list[Any]:
    """What looks on: on the first rank for all, and what every rank must decide alike."""
    from burnish.training import ranks
    from burnish.training.health import EarlyStopping
    from burnish.training.samples import samples_of

    callbacks: list[Any] = []
    if ranks.is_first():
        callbacks += [reporter, *samples_of(model, section, run)]
    if section.early_stopping_patience:
        patience, threshold = section.early_stopping_patience, section.early_stopping_threshold
        callbacks.append(EarlyStopping(patience, threshold))
    return callbacks


def _health_path(run: RunDir) -> Path | None:
    from burnish.training import ranks
    from burnish.training.journal import HEALTH_NAME

    return run.folder("train") / HEALTH_NAME if ranks.is_first() else None


def _accumulation(model: Any, backend: Backend, section: TrainSection, threads: int) -> Any:
    """What carries rows through the backend, for whole or for spread weights."""
    from burnish.training import sharded
    from burnish.training.accumulation import Accumulation, Packing

    packing = Packing(section.row_length, section.packing, section.share_prefixes)
    if sharded.is_asked_for():
        return sharded.ShardedAccumulation(model, backend, packing, pick_device())
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = next(model.parameters()).device
    lanes = threads if backend.takes_lanes and device.type == "cpu" else 1
    return Accumulation(backend, packing, parameters, device, lanes=lanes)


def _backend(peft_model: Any, model: ModelSection, section: TrainSection, records: Any) -> Backend:
    """What computes rows, with all that the recipe and this machine have to make it faster."""
    from burnish.training import sharded
    from burnish.training.acceleration import compiled, settle_attention, use_liger
    from burnish.training.backends import choose_backend
    from burnish.training.loss import LossTerms
    from burnish.training.rounding import in_8_bits

    if model.attn_implementation == "auto":
        settle_attention(peft_model, records)
    if section.backend != "fast":
        use_liger(peft_model, section.use_liger_kernel, records)
    terms = LossTerms(section.label_smoothing_factor, section.z_loss)
    spreads, other = sharded.is_asked_for(), bool(section.against_fast_path)
    backend = choose_backend(
        peft_model,
        records,
        wanted="transformers" if section.torch_compile or spreads or other else section.backend,
        terms=terms,
        packs=section.packing,
    )
    if spreads:
        return sharded.sharded_backend(peft_model, terms)
    if section.speed == "int8":
        return in_8_bits(backend, peft_model, records, terms)
    if not section.torch_compile:
        return backend
    length = section.row_length if section.packing else None
    return compiled(backend, peft_model, records, terms=terms, row_length=length)


def _say_backend(backend: Backend) -> None:
    if backend.name == "fast":
        say("rows go through the fast path, which agrees with the model's own forward")
    else:
        say(f"rows go through the model's own forward: {backend.why}")


def _examples(run: RunDir) -> tuple[Any, list[tuple[list[int], list[int]]]]:
    from datasets import load_from_disk

    train_set = load_from_disk(str(run.split("train"))).select_columns(
        ["input_ids", "labels", "origin"]
    )
    return train_set, _records(load_from_disk(str(run.split("validation"))))


def _records(rows: Any) -> list[tuple[list[int], list[int]]]:
    return list(zip(rows["input_ids"], rows["labels"], strict=True))


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
        adapter=str(run.trained),
        steps=trainer.state.global_step,
        train_loss=counters.loss / max(trainer.state.global_step - counters.skipped, 1),
        validation_loss=kept,
        best_step=trainer.state.best_global_step if best is not None else None,
        supervised_tokens=counters.supervised_tokens,
        useful_tokens_per_second=round(counters.tokens / max(counters.seconds, 1e-9), 1),
        skipped_steps=counters.skipped,
        peak_memory_gib=round(peak_memory_gib(), 3),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        dtype=dtype,
    )
