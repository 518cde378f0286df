"""How the trainer goes on from a checkpoint, to the last bit.

A stock Trainer takes up weights, optimizer, scheduler, random numbers and the place in the data.
What it leaves out is done here: what was still to be done at the step of the checkpoint (an
evaluation, the end of an epoch), the loss since the last log, that a run which is over takes no
further step, settings that a saved optimizer would undo, and a check that all was loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl

from burnish.errors import TrainingError, first_line
from burnish.models.memory import is_out_of_memory
from burnish.progress import warn
from burnish.recipe import TrainSection
from burnish.training import ranks
from burnish.training.agreement import ROUNDING_ONLY, WEIGHTS, Agreement, machine
from burnish.training.saving import TRAINED, Counters, Position, SavingTrainer
from burnish.training.starting_point import (
    Start,
    check_weights,
    checksums,
    warn_of_other_machine,
)

_AGAIN = "Begin again with: burnish train RECIPE --force"


class ResumingTrainer(SavingTrainer):
    """A Trainer that goes on as if it had never stopped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start: Start | None = None
        self._section: TrainSection | None = None
        self.add_callback(_LoopEvents(self))

    def restore_loop(self, state: dict[str, Any]) -> None:
        """Takes up what `loop_state` gave."""

    def begin_epoch(self, number: int) -> None:
        """Chooses the order of an epoch."""

    @property
    def backend_name(self) -> str:
        """What computes the rows."""
        return "transformers"

    def begin(
        self, start: Start | None, section: TrainSection, made_from: Agreement, *, dtype: str
    ) -> None:
        """Notes what the run is made from, and takes up a checkpoint, if there is one.

        What `train(resume_from_checkpoint=start.folder)` then does goes on exactly from there.

        Raises:
            TrainingError: the weights of the base are not those of the checkpoint.
        """
        made_on = machine(
            dtype=dtype,
            backend=self.backend_name,
            processes=ranks.num_ranks(),
            threads=torch.get_num_threads(),
            device=_device_name(self.args.device),
        )
        base = checksums((n, p) for n, p in self.model.named_parameters() if not p.requires_grad)
        self.noted = {"made_from": made_from, "machine": made_on, "weights": {WEIGHTS: base}}
        if start is None:
            return
        warn_of_other_machine(start, made_on)
        check_weights(start, WEIGHTS, base, section)
        self._start, self._section = start, section
        self.counters = Counters(**start.record["counters"])
        self.restore_loop(start.record["loop"])

    # --- while stock code loads ---------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _fitting(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        fresh = [{k: v for k, v in g.items() if k != "params"} for g in self._groups()]
        with _fitting(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if self._start is not None and {*self._start.changed} - ROUNDING_ONLY:
            self._take_settings(fresh)

    def _groups(self) -> list[dict[str, Any]]:
        return [] if self.optimizer is None else list(self.optimizer.param_groups)

    def _take_settings(self, fresh: list[dict[str, Any]]) -> None:
        """Gives a loaded optimizer the settings of the recipe, which the saved ones would undo.

        The schedule keeps its place: the rate is the new peak times the new schedule's factor.
        """
        scheduler = self.lr_scheduler
        scheduler.base_lrs = [settings["initial_lr"] for settings in fresh]
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        rates = [peak * factor for peak, factor in zip(scheduler.base_lrs, factors, strict=True)]
        for group, settings, rate in zip(self._groups(), fresh, rates, strict=True):
            group.update({**settings, "lr": rate})
        scheduler._last_lr = rates

    def _load_callback_state(self) -> None:
        """Callbacks take up what they counted, not the settings that they had then."""
        own = {type(c).__name__: c for c in self.callback_handler.callbacks}
        for name, saved in self.state.stateful_callbacks.items():
            if name in own and name != TrainerControl.__name__ and isinstance(saved, dict):
                saved["args"] = own[name].state()["args"]
        super()._load_callback_state()

    # --- when all is loaded -------------------------------------------------------------------

    def take_up(self) -> None:
        """What a stock trainer leaves out."""
        start, self._start = self._start, None
        if start is None or self._section is None:
            return
        found = self.trained_checksums()
        if found and start.record["weights"].get(TRAINED):
            check_weights(start, TRAINED, found, self._section)
        if not start.keeps_best:
            self.state.best_global_step = self.state.best_metric = None
            self.state.best_model_checkpoint = None
        self.point_at_best()
        self.state.compute_steps(self.args, self.state.max_steps)
        position = Position(**start.record["position"])
        self._tr_loss += position.loss
        self._globalstep_last_logged = position.last_logged
        self._of_step = {
            "grad_norm": position.grad_norm,
            "learning_rate": position.learning_rate,
        }
        self._check_random_numbers(start.folder)
        self._load_rng_state(str(start.folder))  # an evaluation that is due saves it again
        self._do_what_was_due(position)

    def _check_random_numbers(self, folder: Path) -> None:
        alone = self.args.world_size <= 1
        name = "rng_state.pth" if alone else f"rng_state_{self.args.process_index}.pth"
        if not (folder / name).is_file():
            warn(
                f"{folder.name} was saved by another number of processes and holds no random "
                "numbers for this one: dropout will differ"
            )

    def _do_what_was_due(self, position: Position) -> None:
        """The rest of the step at which the checkpoint was saved."""
        is_last = self.state.global_step >= self.state.max_steps
        self.control.should_training_stop = position.is_over or is_last
        self.control.should_log = False
        self.control.should_evaluate, self.control.should_save = position.evaluate, position.save
        self._at_epoch_end = position.at_epoch_end
        if position.evaluate:
            self._log_save_evaluate(position)
        at_boundary = self.state.global_step % self._steps_per_epoch() == 0
        ends_epoch = at_boundary or self.control.should_training_stop
        if ends_epoch and not position.at_epoch_end:
            self.control.should_evaluate = self.control.should_save = False
            self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
            self._log_save_evaluate(position)

    def _log_save_evaluate(self, position: Position) -> None:
        self._maybe_log_save_evaluate(
            self._tr_loss,
            position.grad_norm,
            self.model_wrapped,
            None,
            (self.state.global_step - 1) // self._steps_per_epoch(),
            None,
            0.0,
            learning_rate=position.learning_rate,
        )

    def _steps_per_epoch(self) -> int:
        return len(self.callback_handler.train_dataloader)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Stock code takes a step before it looks whether training is over.
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)


class _LoopEvents(TrainerCallback):  # type: ignore[misc]
    """Tells the trainer where in its loop it is."""

    def __init__(self, trainer: ResumingTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.take_up()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # In an epoch that is begun in its middle, several processes would take the first's order.
        self._trainer.begin_epoch(state.global_step // self._trainer._steps_per_epoch())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer._at_epoch_end = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer._at_epoch_end = True


def _device_name(device: torch.device) -> str:
    """A device by what decides its sums: a GPU by its name, a CPU by its instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device.type == "cpu" else str(device)


@contextlib.contextmanager
def _fitting(folder: str | None) -> Iterator[None]:
    """A checkpoint that does not fit the model or the optimizer is told in one message."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        said = f"it does not fit this run: {first_line(error)}."
        raise TrainingError(str(folder), said, _AGAIN) from None
