"""transformers.Trainer with burnish's step and evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from burnish.conversation import IGNORE_INDEX
from burnish.training import ranks
from burnish.training.accumulation import Accumulation
from burnish.training.batches import StepLoader
from burnish.training.health import (
    SPIKE,
    Health,
    are_finite,
    check_gradients,
    fault_of,
    spike_score,
)
from burnish.training.packing import Record
from burnish.training.resume import ResumingTrainer
from burnish.training.sharded import ShardedAccumulation
from burnish.training.steps import RankShare, StepBatches, deal


class BurnishTrainer(ResumingTrainer):
    """Trains on the mean loss over all supervised tokens of the effective batch.

    A step's records come as one batch, are packed into rows, and go through the backend row by
    row; so accumulation is part of `training_step` and the Trainer's own is 1.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        validation: Sequence[Record],
        accumulation: Accumulation | ShardedAccumulation,
        steps: StepBatches,
        health: Health | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, data_collator=_records, **kwargs)
        self._accumulation = accumulation
        self._whole = (accumulation.packing.row_length, accumulation.lanes)
        self._validation = validation
        self._steps = steps
        self._health = health or Health(None)
        self._gradients_checked = False
        self._taken: list[float] = []  # losses since the last log
        self._is_taken = True

    def get_train_dataloader(self) -> Any:
        """The records of one step at a time, on every rank its share.

        The loader is a step ahead, so that a step's rows are packed while the one before computes.
        """

        def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch = _records(examples)
            return batch | {"ahead": self._accumulation.ahead(batch["records"])}

        share = RankShare(self._steps, rank=ranks.rank(), num_ranks=ranks.num_ranks())
        # Not prepared by accelerate: that would deal out whole steps, and look for tensors to move.
        return StepLoader(self.train_dataset, batch_sampler=share, collate_fn=collate)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """All rows of one step, forward and backward; the mean loss over its supervised tokens.

        A step that must not update anything leaves no gradients, and its loss is given as 0.
        """
        started = time.perf_counter(), time.process_time()
        model.train()
        records = inputs["records"]
        counts = ranks.sum_over_ranks(torch.tensor(_counts(records)))
        num_supervised, num_tokens, pairs = counts.tolist()
        if isinstance(self._accumulation, ShardedAccumulation):
            self._accumulation.model = model
        loss = self._accumulation.backward(
            records, scale=1 / max(num_supervised, 1), ahead=inputs.get("ahead")
        )
        loss = ranks.sum_over_ranks(loss)
        if not self.is_sharded:
            ranks.sum_gradients(model.parameters())
        self._is_taken = self._may_update(model, float(loss), num_supervised, inputs)
        if not self._is_taken:
            model.zero_grad(set_to_none=True)
            return torch.zeros_like(loss)
        if self.is_deepspeed_enabled:
            model.step()  # which keeps the gradients to itself; the trainer's own step does nothing
        elif not self._gradients_checked:
            check_gradients(self.accelerator.unwrap_model(model))
            self._gradients_checked = True
        self.counters.tokens += num_tokens
        self.counters.supervised_tokens += num_supervised
        self.counters.pairs += pairs
        self.counters.loss += float(loss)
        self._taken.append(float(loss))
        self.counters.seconds += time.perf_counter() - started[0]
        self.counters.cpu_seconds += time.process_time() - started[1]
        return loss

    def _may_update(
        self, model: Any, loss: float, num_supervised: int, inputs: dict[str, Any]
    ) -> bool:
        """Whether a step may update the weights; every rank says the same."""
        step, origins = self.state.global_step + 1, inputs["origins"]
        flags = [
            not are_finite(p.grad for p in model.parameters()),
            spike_score(loss, self.counters.recent) > SPIKE,
        ]
        told = ranks.sum_over_ranks(torch.tensor(flags, dtype=torch.int32))
        is_infinite, is_spike = told.tolist()
        fault = fault_of(loss, num_supervised, gradient_is_finite=not is_infinite)
        if not fault:
            self._health.accept(
                step,
                loss,
                self.counters,
                is_spike=bool(is_spike),
                rows=lambda: ranks.gathered(origins),
            )
            return True
        self._health.refuse(
            step,
            fault,
            self.counters,
            rows=lambda: ranks.gathered(origins),
            alone=None
            if self.is_sharded
            else lambda: ranks.gathered(self._not_finite_alone(inputs)),
        )
        return False

    def _not_finite_alone(self, inputs: dict[str, Any]) -> list[str]:
        """The rows that alone have a loss that is not finite, or else such a gradient."""
        rows = list(zip(inputs["records"], inputs["origins"], strict=True))
        self.model.eval()
        losses = [(self._accumulation.loss_sum([record]), origin) for record, origin in rows]
        self.model.train()
        guilty = [origin for loss, origin in losses if not math.isfinite(loss)]
        if guilty:
            return guilty
        for record, origin in rows:
            self._accumulation.backward([record], scale=1.0)
            if not are_finite(p.grad for p in self.model.parameters()):
                guilty.append(origin)
        return guilty

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hands on what is logged; the loss is the mean of the steps that were taken."""
        if "loss" in logs:
            del logs["loss"]
            if self._taken:
                logs = {"loss": sum(self._taken) / len(self._taken), **logs}
                self._taken = []
            if not self._is_taken:
                logs.pop("grad_norm", None)
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The mean validation loss over tokens, by the same code as the training loss."""
        self.model.eval()
        with self.stop.leaving(is_allowed=ranks.num_ranks() == 1):
            own = self._accumulation.loss_sum(self._own_validation())
        total = float(ranks.sum_over_ranks(torch.tensor(own, dtype=torch.float64)))
        self._gradients_checked = False
        count = max(_count_supervised(self._validation), 1)
        metrics = {f"{metric_key_prefix}_loss": total / count}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def loop_state(self) -> dict[str, Any]:
        """How far rows were shortened for want of memory, and the losses since the last log."""
        now = (self._accumulation.packing.row_length, self._accumulation.lanes)
        return {"shortened": None if now == self._whole else now, "taken": self._taken}

    def restore_loop(self, state: dict[str, Any]) -> None:
        """Takes up what `loop_state` gave: the same sums in the same order."""
        self._taken = list(state["taken"])
        if state["shortened"]:
            length, lanes = state["shortened"]
            length = min(length, self._whole[0])
            self._accumulation.packing = replace(self._accumulation.packing, row_length=length)
            self._accumulation.lanes = min(lanes, self._whole[1])

    def begin_epoch(self, number: int) -> None:
        """Chooses the order of an epoch, which starts from 0."""
        self._steps.set_epoch(number)

    @property
    def backend_name(self) -> str:
        """What computes the rows."""
        return self._accumulation.backend_name

    def _own_validation(self) -> list[Record]:
        """The validation records that are this rank's to look at."""
        shares = deal([len(ids) for ids, _ in self._validation], ranks.num_ranks())
        return [self._validation[place] for place in shares[ranks.rank()]]


def _count_supervised(records: Sequence[Record]) -> int:
    """How many tokens of the records carry loss; the first of a record can't be predicted."""
    return sum(label != IGNORE_INDEX for _, labels in records for label in labels[1:])


def _counts(records: Sequence[Record]) -> list[int]:
    """Supervised tokens, tokens, and pairs of a token with one that it sees."""
    lengths = [len(ids) for ids, _ in records]
    return [_count_supervised(records), sum(lengths), sum(n * (n + 1) // 2 for n in lengths)]


def _records(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "records": [(example["input_ids"], example["labels"]) for example in examples],
        "origins": [example.get("origin", "a row of unknown origin") for example in examples],
    }
