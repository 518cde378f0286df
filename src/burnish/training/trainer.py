"""transformers.Trainer with burnish's loss, evaluation and checkpoints.

The three private methods that are replaced (`_get_output_dir`, `_save_checkpoint`,
`_load_best_model`) are pinned by a contract test, which fails when an upgrade changes them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from burnish.errors import TrainingError
from burnish.progress import track
from burnish.scoring import Ids
from burnish.training import checkpoint
from burnish.training.adapter import check_gradients
from burnish.training.backends import Backend
from burnish.training.packing import Row, pack
from burnish.training.steps import StepBatches

COUNTERS = "counters.json"


@dataclass
class Counters:
    """What training has consumed so far; kept with every checkpoint. `loss` sums over steps."""

    tokens: int = 0
    supervised_tokens: int = 0
    loss: float = 0.0
    seconds: float = 0.0


class FiniteGradients(TrainerCallback):  # type: ignore[misc]
    """Stops a run before a gradient that is not finite reaches the weights."""

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Looks at the gradient of the whole effective batch."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise _not_finite(state.global_step + 1, "the gradient is not finite")


def _not_finite(step: int, what: str) -> TrainingError:
    return TrainingError(
        f"step {step}",
        f"{what}; nothing was updated by it.",
        "Lower train.learning_rate, or set train.bf16: false.",
    )


@dataclass(frozen=True, slots=True)
class Packing:
    """How records become rows: at most so many tokens, one record a row without packing."""

    row_length: int
    is_on: bool = True
    share_prefixes: bool = True

    def rows(self, records: Sequence[tuple[Ids, Ids]], backend: Backend) -> list[Row]:
        """The rows of some records, for a backend."""
        length = self.row_length if self.is_on else 1
        share = self.is_on and self.share_prefixes and backend.shares_prefixes
        return pack(records, length, share_prefixes=share)


class BurnishTrainer(Trainer):  # type: ignore[misc]
    """Trains on the mean loss over all supervised tokens of the effective batch.

    A step's records come as one batch, are packed into rows, and go through the backend row by
    row; so accumulation is part of `training_step` and the Trainer's own is 1.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        validation: Sequence[tuple[Ids, Ids]],
        keep: int | None,
        backend: Backend,
        packing: Packing,
        steps: StepBatches,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, data_collator=_records, **kwargs)
        self.add_callback(FiniteGradients())
        self.counters = Counters()
        self._keep = keep
        self._backend = backend
        self._packing = packing
        self._validation_rows = packing.rows(validation, backend)
        self._steps = steps
        self._saving = False
        self._gradients_checked = False

    # --- loss ---------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """The records of one step at a time, on every rank its share."""
        loader = DataLoader(
            self.train_dataset, batch_sampler=self._steps, collate_fn=self.data_collator
        )
        return self.accelerator.prepare(loader)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """All rows of one step, forward and backward; the mean loss over its supervised tokens."""
        started = time.perf_counter()
        model.train()
        rows = self._packing.rows(inputs["records"], self._backend)
        counts = [[len(row.targets), row.num_tokens] for row in rows]
        num_supervised, num_tokens = self._sum_over_ranks(
            torch.tensor(counts, device=self.args.device).sum(0)
        ).tolist()
        loss = torch.zeros((), device=self.args.device)
        for row in rows:
            part = self._backend.loss_sum(row.to(self.args.device)) / num_supervised
            self.accelerator.backward(part)
            loss += part.detach()
        loss = self._sum_over_ranks(loss)
        self._sum_gradients(model)
        if not torch.isfinite(loss):
            raise _not_finite(self.state.global_step + 1, f"the loss is {float(loss)}")
        if not self._gradients_checked:
            check_gradients(self.accelerator.unwrap_model(model))
            self._gradients_checked = True
        self.counters.tokens += num_tokens
        self.counters.supervised_tokens += num_supervised
        self.counters.loss += float(loss)
        self.counters.seconds += time.perf_counter() - started
        return loss

    def _sum_gradients(self, model: Any) -> None:
        """Adds up the gradients of all ranks: rows don't pass through the wrapper that would."""
        if self.accelerator.num_processes > 1:
            for p in model.parameters():
                if p.requires_grad:
                    own = torch.zeros_like(p) if p.grad is None else p.grad
                    p.grad = self._sum_over_ranks(own)

    def _sum_over_ranks(self, x: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(x, reduction="sum")
        return total

    # --- evaluation ---------------------------------------------------------------------------

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The mean validation loss over tokens, by the same code as the training loss."""
        self.model.eval()
        rows = self._validation_rows
        total = 0.0
        with torch.no_grad():
            for row in track(rows, "validate", total=len(rows), unit="rows"):
                total += float(self._backend.loss_sum(row.to(self.args.device)))
        self._gradients_checked = False
        count = max(sum(len(row.targets) for row in rows), 1)
        metrics = {f"{metric_key_prefix}_loss": total / count}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    # --- checkpoints --------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        root: str = super()._get_output_dir(trial)
        return str(Path(root) / checkpoint.INCOMPLETE) if self._saving else root

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        root = Path(self.args.output_dir)
        beside = root / checkpoint.INCOMPLETE
        if self.args.should_save:
            shutil.rmtree(beside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        finally:
            self._saving = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = beside / f"checkpoint-{self.state.global_step}"
            (folder / COUNTERS).write_text(json.dumps(asdict(self.counters)), encoding="utf-8")
            checkpoint.publish(folder, root)
            shutil.rmtree(beside, ignore_errors=True)
            checkpoint.prune(root, keep=self._keep, best_step=self.state.best_global_step)
        self._point_at_best()
        self.accelerator.wait_for_everyone()

    def _load_best_model(self) -> None:
        self._point_at_best()
        super()._load_best_model()

    def _point_at_best(self) -> None:
        """Corrects the path of the best checkpoint, which stock code took while it was beside."""
        if self.state.best_global_step:
            best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best)

    def restore_counters(self, folder: Path) -> None:
        """Takes up the counters that a checkpoint was saved with."""
        self.counters = Counters(**json.loads((folder / COUNTERS).read_text(encoding="utf-8")))


def _records(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"records": [(example["input_ids"], example["labels"]) for example in examples]}
