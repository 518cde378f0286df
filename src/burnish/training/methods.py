"""What the recipe's method trains: the model with its learning weights, and what is saved of it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from burnish.errors import RecipeError
from burnish.models.loading import BASE_NOTE, load_base, own_dtype, pick_device
from burnish.models.lora import base_of
from burnish.models.new_rows import new_rows
from burnish.models.prequantized import quantization_of
from burnish.models.trainable import held_in, make_trainable
from burnish.planning.loops import check_offloading
from burnish.progress import warn
from burnish.recipe import ModelSection, TrainSection, check_method
from burnish.run_dir import RunDir, replace_folder, write_json
from burnish.training import sharded
from burnish.training.adapter import add_adapter
from burnish.training.loftq import start_from_residual
from burnish.training.neftune import with_noise
from burnish.training.optimizers import check_optimizer

if TYPE_CHECKING:
    from burnish.training.backends import Backend
    from burnish.training.comparison import LossSum
    from burnish.training.packing import Row

INITIAL = "initial_adapter"
"""The adapter as it started, among the checkpoints, where the base was changed by its start."""

HIGH_RATE = 1e-4
"""A learning rate above this is an adapter's, not a whole model's."""


def check_settings(model: ModelSection, section: TrainSection) -> None:
    """Refuses what can't be trained, before a model is loaded.

    Raises:
        RecipeError: two settings exclude each other, or a package is missing.
    """
    try:
        check_method(model, section)
    except ValueError as error:
        raise RecipeError("recipe", str(error), "") from None
    check_optimizer(section)
    check_offloading(section, pick_device().type)
    if model.load_in_8bit and section.lora.use_dora and pick_device().type == "cpu":
        raise RecipeError(
            "train.lora.use_dora",
            "on a CPU PEFT spoils the scales of an 8-bit base whenever DoRA reads its weights.",
            "Set model.load_in_8bit: false (load_in_4bit works), or use_dora: false.",
        )
    if sharded.is_asked_for():
        _check_spread(section)
    if section.method == "full" and section.learning_rate > HIGH_RATE:
        warn(
            f"train.learning_rate is {section.learning_rate:g}, which is high for method full; "
            "1e-5 to 5e-5 is usual"
        )


def _check_spread(section: TrainSection) -> None:
    """Spread weights come together in the model's own forward alone, and can't be started from."""
    if section.lora.changes_base:
        raise RecipeError(
            "train.lora.init_lora_weights",
            f"{section.lora.init_lora_weights} changes weights that FSDP spreads over processes.",
            "Set init_lora_weights: true, or train on one process or with DDP.",
        )
    if section.activation_offloading:
        raise RecipeError(
            "train.activation_offloading",
            "weights that are spread over processes can't be told from activations.",
            "Set activation_offloading: false, or train on one process or with DDP.",
        )
    passed_over = {
        "train.torch_compile": section.torch_compile,
        "train.speed: int8": section.speed == "int8",
        "train.backend: fast": section.backend == "fast",
    }
    for setting in (name for name, is_set in passed_over.items() if is_set):
        warn(f"{setting} has no effect where weights are spread over processes")


def load_trainable(
    folder: Path,
    model: ModelSection,
    section: TrainSection,
    *,
    compute: torch.dtype,
    device: torch.device | None = None,
) -> Any:
    """The base with what learns of it: a PeftModel, or with full and freeze the model itself.

    Args:
        folder: where the base lies, from `find_model`.
        model: the recipe's model section.
        section: the recipe's train section.
        compute: what the forward pass computes in; what learns is held in float32.
        device: where it lies; by default the one to compute on.

    Raises:
        RecipeError: the method does not fit this base.
    """
    _check_base(folder, section)
    held = held_in(section, compute, own_dtype(folder))
    base = load_base(folder, model, dtype=held, device=device)
    if section.method != "lora":
        return make_trainable(base, section)
    rows = new_rows(base, folder, model)
    tuned = add_adapter(base, section.lora, new_rows=rows)
    if section.lora.init_lora_weights == "loftq":
        start_from_residual(tuned, folder)
    return tuned


def _check_base(folder: Path, section: TrainSection) -> None:
    kind = quantization_of(folder)
    if kind is None or (section.method == "lora" and not section.lora.changes_base):
        return
    what = f"train.method: {section.method}"
    if section.method == "lora":
        what = f"train.lora.init_lora_weights: {section.lora.init_lora_weights}"
    raise RecipeError(
        what,
        f"the weights of {folder.name} are quantized by {kind}, and can't be changed.",
        "Set train.method: lora with init_lora_weights: true, or name the model as it was before.",
    )


# --- saving -----------------------------------------------------------------------------------


def keep_start(model: Any, section: TrainSection, run: RunDir) -> None:
    """Keeps an adapter as it starts, if its start changed the base; `save_trained` subtracts it."""
    if section.lora.changes_base:
        model.save_pretrained(str(run.checkpoints / INITIAL))


def save_trained(
    write: Callable[..., None], section: TrainSection, run: RunDir, *, is_first: bool = True
) -> Path:
    """Saves what was trained; returns its folder, which appears whole.

    An adapter fits the original base, whatever it started from: what PiSSA and OLoRA took out of
    the base is subtracted, which doubles the rank. LoftQ's fits the 4-bit base, and says so. With
    full and freeze it is the whole model.

    Args:
        write: writes the model into a folder, with options of PEFT's `save_pretrained`; every
            process calls it.
        section: the recipe's train section.
        run: the run.
        is_first: whether this process is the one that writes.
    """
    final = run.adapter if section.method == "lora" else run.trained_model
    beside = final.with_name(f".{final.name}.incomplete")
    options: dict[str, Any] = {}
    if section.lora.changes_base:
        initial = run.checkpoints / INITIAL
        options["path_initial_model_for_weight_conversion"] = str(initial)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*path_initial_model_for_weight_conversion.*")
        write(beside, **options)
    if is_first:
        if section.lora.init_lora_weights == "loftq":
            write_json(beside / BASE_NOTE, {"load_in_4bit": True})
        if section.method != "lora":
            shutil.copytree(run.tokenizer, beside, dirs_exist_ok=True)
        replace_folder(beside, final)
    return final


# --- computing --------------------------------------------------------------------------------


def autocasts(section: TrainSection, on: str, compute: torch.dtype) -> bool:
    """Whether a row's products are computed by autocast on a kind of device.

    Where weights of the model learn, which are float32; and of LoRA on a GPU, whose updates would
    else go through it in float32 and cost as much as the model. The fast path sees to its own.
    """
    if compute == torch.float32:
        return False
    return section.method != "lora" or (on == "cuda" and section.backend != "fast")


@contextmanager
def computing(
    model: Any, section: TrainSection, device: torch.device, compute: torch.dtype, on: str = ""
) -> Iterator[None]:
    """Lets a model compute as the method has it on a device, or as it would on another kind."""
    if not autocasts(section, on or device.type, compute):
        yield
        return
    with torch.autocast(device.type, dtype=compute), inputs_as_they_come(model):
        yield


@contextmanager
def inputs_as_they_come(model: Any) -> Iterator[None]:
    """Keeps adapters from making float32 of their inputs, which autocast would turn back again.

    Holds around a whole step, so that layers recompute as they computed. PEFT's own helper stops at
    layers that never do so, such as those of new tokens.
    """
    layers = [m for m in model.modules() if getattr(m, "cast_input_dtype_enabled", False)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True


def as_method_computes(
    backend: Backend, model: Any, section: TrainSection, compute: torch.dtype
) -> Backend:
    """The backend with the method's autocast around a row's loss, and NEFTune's noise in it."""
    loss_sum = backend.loss_sum
    autocast = autocasts(section, model.device.type, compute)

    def in_type(row: Row) -> Tensor:
        with torch.autocast(row.input_ids.device.type, dtype=compute):
            return loss_sum(row)

    changed: LossSum = in_type if autocast else loss_sum
    if section.neftune_noise_alpha:
        embedding = base_of(model).get_input_embeddings()
        changed = with_noise(changed, embedding, section.neftune_noise_alpha)
    if autocast and section.method == "lora":
        backend = replace(backend, around=partial(inputs_as_they_come, model))
    return replace(backend, loss_sum=changed, why=section.against_fast_path or backend.why)
