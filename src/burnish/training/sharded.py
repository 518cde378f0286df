"""A base whose weights are spread over the ranks by FSDP2 or ZeRO, each holding a share of each.

They come together layer by layer inside the model's own forward and backward pass, in which all
ranks take part. So all go through the same number of rows: a rank that has fewer adds silent ones.

Checkpoints of FSDP2 hold whole tensors, in the files of a run in one process; so they can be taken
up by any number of processes, sharded or not. Those of ZeRO are DeepSpeed's own, and for as many
processes as wrote them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import Trainer

from burnish.conversation import IGNORE_INDEX
from burnish.errors import TrainingError
from burnish.training import ranks
from burnish.training.accumulation import Packing
from burnish.training.backends import Backend
from burnish.training.loss import LossTerms
from burnish.training.packed_model import PackedModel
from burnish.training.packing import Record, Row, pack

ADAPTER_WEIGHTS = "adapter_model.safetensors"
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"


def is_asked_for() -> bool:
    """Whether the launcher's environment says that weights are to be spread over the ranks."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "").lower() == "true" for name in names)


def base_device() -> torch.device | None:
    """Where a base lies until its weights are spread; None if they are not to be."""
    return torch.device("cpu") if is_asked_for() else None


def sharded_backend(model: Any, terms: LossTerms) -> Backend:
    """The model's own forward, as a whole."""
    packed = PackedModel(model, is_sharded=True)
    return Backend(
        "transformers",
        lambda row: packed.loss_sum(row, terms),
        shares_prefixes=False,
        why="its weights are spread over the processes",
    )


class ShardedAccumulation:
    """Forward and backward passes over a rank's records, in step with the other ranks.

    Memory that runs out ends the run: a rank that tried again alone would wait for the others.
    """

    def __init__(
        self, model: Any, backend: Backend, packing: Packing, device: torch.device
    ) -> None:
        self.packing = packing
        self.lanes = 1
        self.backend_name = backend.name
        self.model = model  # with ZeRO the engine around it, once there is one
        self._backend = backend
        self._device = device

    def ahead(self, records: Sequence[Record]) -> None:
        """Nothing is packed ahead: how many rows there are is agreed in the step itself."""

    def backward(self, records: Sequence[Record], *, scale: float, ahead: object = None) -> Tensor:
        """Adds the gradients of `scale` times the summed loss of all ranks; returns this rank's."""
        total = torch.zeros((), device=self._device)
        rows = self._rows(records)
        for number, (row, weight) in enumerate(rows, 1):
            _say_whether_last(self.model, is_last=number == len(rows))
            loss = self._loss_sum(row) * (scale * weight)
            # Both take the mean of the ranks' gradients; what is wanted is their sum.
            _backward(self.model, loss * ranks.num_ranks())
            total += loss.detach()
        return total

    def loss_sum(self, records: Sequence[Record]) -> float:
        """The summed loss of this rank's records, without gradients."""
        with torch.no_grad():
            return sum(weight * float(self._loss_sum(row)) for row, weight in self._rows(records))

    def _loss_sum(self, row: Row) -> Tensor:
        return self._backend.loss_sum(row.to(self._device))

    def _rows(self, records: Sequence[Record]) -> list[tuple[Row, float]]:
        """The rows of some records with weight 1, and silent ones up to the most of any rank."""
        own = self.packing.rows(records, self._backend) if records else []
        missing = ranks.largest_over_ranks(len(own)) - len(own)
        silent = pack([([0, 0], [IGNORE_INDEX, 0])], 2, share_prefixes=False) * missing
        return [(row, 1.0) for row in own] + [(row, 0.0) for row in silent]


def _say_whether_last(model: Any, *, is_last: bool) -> None:
    """Gradients go over the network behind the last row of a step, not behind each."""
    if hasattr(model, "set_gradient_accumulation_boundary"):
        model.set_gradient_accumulation_boundary(is_last)
    else:
        model.set_requires_gradient_sync(is_last)


def _backward(model: Any, loss: Tensor) -> None:
    if hasattr(model, "set_gradient_accumulation_boundary"):
        model.backward(loss)
    else:
        torch.autograd.backward(loss)


class GatheringTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose checkpoints are the same files, however weights are spread over the ranks.

    Where nothing is spread, it saves and loads as transformers does.
    """

    @property
    def is_sharded(self) -> bool:
        """Whether a rank holds only its share of weights or gradients."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def create_accelerator_and_postprocess(self) -> None:
        """Sets up accelerate, which must not wrap a model that every rank has whole.

        Raises:
            TrainingError: weights were to be spread over the ranks, and accelerate does not.
        """
        super().create_accelerator_and_postprocess()
        if is_asked_for() and not self.is_sharded:
            raise TrainingError(
                "accelerate",
                "on this device it keeps the weights whole without a word, although its "
                "configuration says to spread them.",
                "Take --strategy ddp.",
            )
        if not self.is_sharded:
            # Rows go past a wrapper, and gradients are summed by hand (ranks.py): DDP's would only
            # hold a second copy of them.
            self.accelerator.prepare_model = partial(
                self.accelerator.prepare_model, evaluation_mode=True
            )

    def save_adapter(self, folder: Path, **options: Any) -> None:
        """Writes the model as PEFT does. Every rank must call it; the first one writes."""
        weights = None
        if self.is_fsdp_enabled:
            weights = dict(_whole_weights(self.model))
        elif self.is_deepspeed_enabled:
            weights = self.accelerator.get_state_dict(self.model_wrapped)
        if self.args.should_save:
            self.model.save_pretrained(str(folder), state_dict=weights, **options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model, as transformers does in one process."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        self._save(output_dir, state_dict=dict(_whole_weights(self.model)))

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        if resume_from_checkpoint:
            check_origin(Path(resume_from_checkpoint), with_zero=self.is_deepspeed_enabled)
        if self.is_fsdp_enabled and resume_from_checkpoint:
            # While the weights are still whole; what stock code would read later are other files.
            super()._load_from_checkpoint(resume_from_checkpoint)
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = _with_tensors(self.optimizer.state_dict(), _whole)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        saved = torch.load(Path(checkpoint) / OPTIMIZER, map_location="cpu", weights_only=True)
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"]]
        for index, values in saved["state"].items():
            values |= {name: _spread(v, parameters[index]) for name, v in values.items()}
        self.optimizer.load_state_dict(saved)
        schedule = torch.load(Path(checkpoint) / SCHEDULER, weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)

    def _load_best_model(self) -> None:
        if not self.is_fsdp_enabled:
            super()._load_best_model()
            return
        from safetensors.torch import load_file

        saved = load_file(Path(self.state.best_model_checkpoint) / ADAPTER_WEIGHTS)
        with torch.no_grad():
            for name, parameter in _learning(self.model):
                value = saved[name.replace(f".{self.model.active_adapter}", "")]
                parameter.copy_(_spread(value, parameter))


def check_origin(folder: Path, *, with_zero: bool) -> None:
    """Refuses a checkpoint whose optimizer state this run could not take up.

    Raises:
        TrainingError: DeepSpeed wrote it, and this run is without it or has another number of
            processes; or the other way round.
    """
    shares = len(list(folder.glob("global_step*/*optim_states.pt")))
    if shares == (ranks.num_ranks() if with_zero else 0):
        return
    if shares:
        found = f"DeepSpeed wrote it, and its optimizer state is for {shares} processes alone."
        remedy = f"Go on with --launch deepspeed --processes {shares}, or begin again with --force."
    else:
        found = "DeepSpeed can go on from checkpoints of its own only."
        remedy = "Go on with another --launch, or begin again with --force."
    raise TrainingError(str(folder), found, remedy)


def _learning(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _whole_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What learns, by name, whole and on the CPU; all ranks take part, the first keeps it."""
    for name, parameter in _learning(model):
        weight = _whole(parameter.detach())
        if ranks.is_first():
            yield name, weight


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def _spread(value: Any, parameter: Tensor) -> Any:
    """A value of a parameter's shape, spread as that is; anything else as it is."""
    fits = isinstance(value, Tensor) and value.shape == parameter.shape
    if not fits or not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements
    )


def _with_tensors(value: Any, change: Any) -> Any:
    """A nested value with a change made to each of its tensors, in the order they stand in."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _with_tensors(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_tensors(item, change) for item in value]
    return value
