"""Base, method, backend and examples -> the trainer of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.models.loading import dtype_name, pick_device, pick_dtype, set_threads
from burnish.models.memory import keep_products, steady_heap, warm_heap
from burnish.models.names import find_model
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir

if TYPE_CHECKING:
    from burnish.training.backends import Backend
    from burnish.training.trainer import BurnishTrainer

_LEARNING = {
    "lora": "adapter weights",
    "full": "weights, which are all,",
    "freeze": "weights of the model",
}


def build(model: ModelSection, section: TrainSection, run: RunDir, reporter: Any) -> BurnishTrainer:
    """The trainer of a run, with base, fresh adapter and prepared examples in it."""
    from transformers import PrinterCallback, ProgressCallback, set_seed

    from burnish.training import ranks, sharded
    from burnish.training.arguments import training_arguments
    from burnish.training.headroom import layers_to_recompute
    from burnish.training.health import Health
    from burnish.training.limit import limit_of
    from burnish.training.llama.attention import num_products
    from burnish.training.methods import as_method_computes, computing, keep_start, load_trainable
    from burnish.training.offloading import offloading
    from burnish.training.optimizers import make_optimizer
    from burnish.training.recomputing import recomputing
    from burnish.training.steps import StepBatches
    from burnish.training.trainer import BurnishTrainer

    steady_heap()
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
    lengths = [len(ids) for ids in train_set["input_ids"]]
    keep_products(num_products(max(section.row_length, *lengths), threads))
    tried = _records(train_set.select(range(min(len(train_set), 16))))
    with computing(tuned, section, tuned.device, dtype):
        backend = _backend(tuned, model, section, tried)
    backend = as_method_computes(backend, tuned, section, dtype)
    if backend.name == "fast":
        warm_heap()
    _say_backend(backend)
    number = layers_to_recompute(
        model, section, tuned, train_set, backend=backend.name, compute=dtype
    )
    backend = recomputing(backend, tuned, ranks.largest_over_ranks(number))
    if section.activation_offloading:
        backend = offloading(backend, tuned)
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
            lengths,
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


def _width(model: ModelSection, dtype: Any) -> str:
    if model.load_in_4bit:
        return f"4 bits (computing in {dtype_name(dtype)})"
    if model.load_in_8bit:
        return f"8 bits (computing in {dtype_name(dtype)})"
    return dtype_name(dtype)
