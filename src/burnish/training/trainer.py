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
from transformers import Trainer, TrainerCallback

from burnish.errors import TrainingError
from burnish.scoring import Ids, score, supervised_logits
from burnish.training import checkpoint
from burnish.training.adapter import check_gradients

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


class BurnishTrainer(Trainer):  # type: ignore[misc]
    """Trains on the mean loss over all supervised tokens of the effective batch.

    Only positions that predict a supervised token go through the head; no [tokens, vocab] array
    of prompt or padding positions is made.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self, *args: Any, validation: Sequence[tuple[Ids, Ids]], keep: int | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(FiniteGradients())
        self.model_accepts_loss_kwargs = True
        self.counters = Counters()
        self._validation = validation
        self._keep = keep
        self._saving = False
        self._gradients_checked = False

    # --- loss ---------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The sum of the losses of this micro batch over the tokens of the effective batch."""
        logits, targets = supervised_logits(model, inputs)
        total = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        count = num_items_in_batch if num_items_in_batch is not None else max(len(targets), 1)
        loss = total / count * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro batch, forward and backward, with its loss and gradients checked."""
        started = time.perf_counter()
        self.counters.tokens += int(inputs["attention_mask"].sum())
        self.counters.supervised_tokens += int((inputs["labels"][:, 1:] >= 0).sum())
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise _not_finite(self.state.global_step + 1, f"the loss is {float(loss)}")
        if not self._gradients_checked:
            check_gradients(self.accelerator.unwrap_model(model))
            self._gradients_checked = True
        self.counters.loss += float(loss)
        self.counters.seconds += time.perf_counter() - started
        return loss

    # --- evaluation ---------------------------------------------------------------------------

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The mean validation loss over tokens, whatever the batch size."""
        self.model.eval()
        result = score(
            self.model,
            self._validation,
            batch_size=self.args.per_device_eval_batch_size,
            what="validate",
        )
        self._gradients_checked = False
        metrics = {f"{metric_key_prefix}_loss": result.loss}
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
