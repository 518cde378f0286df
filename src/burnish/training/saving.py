"""How the trainer saves: checkpoints written beside, sealed, moved into place, then pruned.

The private methods of transformers.Trainer that are replaced are pinned by a contract test, which
fails when an upgrade changes them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import TrainingError
from burnish.exits import GO_ON_LATER
from burnish.progress import say
from burnish.run_dir import write_json
from burnish.training import checkpoint
from burnish.training.journal import read_lines
from burnish.training.sharded import GatheringTrainer
from burnish.training.starting_point import checksums
from burnish.training.stopping import LeftHalfway, StopRequest

TRAINED = "trained"


@dataclass
class Counters:
    """What training has consumed so far; kept with every checkpoint.

    Attributes:
        loss: summed over the steps that were taken.
        pairs: of a token with one that it sees.
        skipped: steps that were passed over; likewise in a row, up to now.
        recent: the last losses, to tell a spike by.
    """

    tokens: int = 0
    supervised_tokens: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    pairs: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the loop a checkpoint was saved, beyond what the trainer's own state says.

    Attributes:
        at_epoch_end: whether the end of an epoch had been told already.
        evaluate: whether an evaluation of this step is still to be made.
        save: whether a checkpoint is to be written after that.
        is_over: whether training ends here, before its last step.
        loss: the sum of the losses since the last log.
        last_logged: the step of that.
        grad_norm: that of this step, for a log at the end of the epoch.
        learning_rate: likewise.
    """

    at_epoch_end: bool
    evaluate: bool
    save: bool
    is_over: bool
    loss: float
    last_logged: int
    grad_norm: float | None
    learning_rate: float | None


class SavingTrainer(GatheringTrainer):
    """A Trainer whose checkpoints appear whole, and that stops when it is asked to.

    Attributes:
        counters: what training has consumed so far.
        stop: whether it shall stop at its next step.
        noted: what goes into every checkpoint besides: `made_from`, `machine` and `weights`.
        journals: the files that are added to while training goes.
    """

    control: Any

    def __init__(self, *args: Any, keep: int | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = Counters()
        self.stop = StopRequest()
        self.noted: dict[str, Any] = {"made_from": {}, "machine": {}, "weights": {}}
        self.journals: Sequence[Path] = ()
        self._keep = keep
        self._saving = False
        self._at_epoch_end = False
        self._still_due = {"evaluate": False, "save": False}
        self._of_step: dict[str, float | None] = {"grad_norm": None, "learning_rate": None}

    def loop_state(self) -> dict[str, Any]:
        """What else of the loop a resume must take up."""
        return {}

    # --- saving -------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        root: str = super()._get_output_dir(trial)
        return str(Path(root) / checkpoint.INCOMPLETE) if self._saving else root

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        root = Path(self.args.output_dir)
        beside = root / checkpoint.INCOMPLETE
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(beside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving = True
        try:
            with checkpoint.writing(root / name, root):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                is_safe = self.args.should_save and self._publish(beside / name, root)
        finally:
            self._saving = False
            if self.args.should_save:
                shutil.rmtree(beside, ignore_errors=True)  # a full disk gets its room back
        if is_safe:
            checkpoint.prune(root, keep=self._keep, best_step=self.state.best_global_step)
        self.point_at_best()
        self.accelerator.wait_for_everyone()

    def _publish(self, folder: Path, root: Path) -> bool:
        write_json(folder / checkpoint.RECORD, self._record())
        lacking = checkpoint.missing(folder)
        if lacking is not None:
            raise TrainingError(
                str(root / folder.name), f"{lacking}, so nobody could go on from it.", ""
            )
        return checkpoint.publish(folder, root)

    def _record(self) -> dict[str, Any]:
        ends_early = self.state.global_step < self.state.max_steps
        position = Position(
            at_epoch_end=self._at_epoch_end,
            is_over=self.control.should_training_stop and ends_early,
            loss=float(self._tr_loss),
            last_logged=self._globalstep_last_logged,
            evaluate=self._still_due["evaluate"],
            save=self._still_due["save"],
            grad_norm=self._of_step["grad_norm"],
            learning_rate=self._of_step["learning_rate"],
        )
        return {
            **self.noted,
            "weights": {**self.noted["weights"], TRAINED: self.trained_checksums()},
            "best_step": self.state.best_global_step,
            "counters": asdict(self.counters),
            "position": asdict(position),
            "loop": self.loop_state(),
            "lines": {path.name: len(read_lines(path)) for path in self.journals},
        }

    def trained_checksums(self) -> dict[str, int]:
        """Checksums of what is trained; none where each process holds only a part of it."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return {}
        model = self.accelerator.unwrap_model(self.model)
        return checksums((n, p) for n, p in model.named_parameters() if p.requires_grad)

    # --- the best -----------------------------------------------------------------------------

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best: bool = super()._determine_best_metric(metrics, trial)
        if is_best and self.args.load_best_model_at_end:
            self.control.should_save = True  # else there would be nothing to load
        return is_best

    def _load_best_model(self) -> None:
        self.point_at_best()
        folder = Path(self.state.best_model_checkpoint)
        problem = checkpoint.fault(folder)
        if problem is not None:
            raise TrainingError(
                str(folder),
                f"the best adapter can't be taken from here: {problem}.",
                "Run it again: it goes on from a checkpoint before it, or without it.",
            )
        super()._load_best_model()

    def point_at_best(self) -> None:
        """Corrects the path of the best checkpoint: stock code took it while it was beside.

        Nor does it hold in a run folder that was moved.
        """
        if self.state.best_global_step:
            best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best)

    # --- stopping -----------------------------------------------------------------------------

    def _maybe_log_save_evaluate(  # noqa: PLR0913
        self,
        tr_loss: Any,
        grad_norm: Any,
        model: Any,
        trial: Any,
        epoch: float,
        ignore_keys_for_eval: list[str] | None,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        norm = None if grad_norm is None else float(grad_norm)
        self._of_step = {"grad_norm": norm, "learning_rate": learning_rate}
        if self.control.should_training_stop and self._steps_to_log():
            self.control.should_log = True  # before the last checkpoint, so that it holds the line
        rest = (grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, learning_rate)
        if not self.stop.is_agreed():
            try:
                super()._maybe_log_save_evaluate(tr_loss, *rest)
                return
            except LeftHalfway:  # an evaluation, which is made after the resume
                pass
        self._still_due["evaluate"] = self.control.should_evaluate
        self._still_due["save"] = self.control.should_save
        self.control.should_evaluate, self.control.should_save = False, True
        super()._maybe_log_save_evaluate(tr_loss, *rest)
        say(f"stopped at step {self.state.global_step}, which is saved; run it again to go on")
        sys.exit(GO_ON_LATER)

    # --- the end ------------------------------------------------------------------------------

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """Ends; where an evaluation decided that, the steps since the last log are logged first.

        The last checkpoint holds their losses, so a resumed run logs them, too.
        """
        if self._steps_to_log():
            self.control.should_log = True
            self.control.should_evaluate = self.control.should_save = False
            norm, rate = self._of_step["grad_norm"], self._of_step["learning_rate"]
            super()._maybe_log_save_evaluate(
                self._tr_loss, norm, self.model, trial, 0.0, None, start_time, learning_rate=rate
            )
        return super()._finalize_training(trial, num_train_samples, start_time)

    def _steps_to_log(self) -> int:
        """How many steps are in no line of metrics yet."""
        return int(self.state.global_step - self._globalstep_last_logged)
