"""What stops a run that would learn nothing or go wrong, and what is noted of it: always with rows.

Before the update of every step it is known whether its loss and its gradient are finite and whether
it had anything to learn from. All ranks decide alike, because they ask the same sums. At the first
step, and after each evaluation, every adapter layer must have received a gradient.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback

from burnish.errors import TrainingError
from burnish.progress import say, warn
from burnish.training.journal import append_line
from burnish.training.saving import Counters

MOST_IN_A_ROW = 5
"""So many steps may be passed over one behind the other; one more stops the run."""

ROWS_SAID = 8
"""A message names so many rows of a step; health.jsonl has all."""

WINDOW, LEAST = 64, 20
"""A loss is compared with so many before it, and only once there are at least so many."""

SPIKE = 8.0
"""Robust standard deviations above the median that make a spike."""

NO_TARGETS = "the step has no token to learn from"

_EXPERT = re.compile(r"(.*\bexperts?\.)(\d+)\.")

Rows = Callable[[], list[str]]
"""Origins of rows, gathered over all ranks only when they are asked for."""


class Health:
    """Judges every step before its update, and writes down what it finds.

    Args:
        path: health.jsonl; None on ranks that write nothing.
        bad_steps: whether a bad step stops the run or is passed over.
    """

    def __init__(self, path: Path | None, bad_steps: Literal["stop", "skip"] = "stop") -> None:
        self._path = path
        self._bad_steps = bad_steps

    def refuse(
        self, step: int, fault: str, counters: Counters, *, rows: Rows, alone: Rows | None = None
    ) -> None:
        """Notes a step that must not update anything; returns only if it may be passed over.

        Args:
            step: its number.
            fault: what is wrong with it, from `fault_of`.
            counters: where it is counted.
            rows: the step's rows.
            alone: finds those among them that are not finite alone; None where nobody can tell.

        Raises:
            TrainingError: the recipe says stop, or too many steps in a row are bad. It names rows.
        """
        origins = rows()
        guilty = alone() if alone is not None and fault != NO_TARGETS else None
        counters.skipped += 1
        counters.skipped_in_a_row += 1
        too_many = counters.skipped_in_a_row > MOST_IN_A_ROW
        stops = self._bad_steps == "stop" or too_many
        line = {"step": step, "event": "bad_step", "fault": fault, "stopped": stops}
        self._note({**line, "rows": origins, "not_finite_alone": guilty})
        error = bad_step(step, fault, origins, guilty)
        if not stops:
            warn(f"step {step} is passed over: {error.problem}")
        elif self._bad_steps == "stop":
            raise error
        else:
            many = f"{counters.skipped_in_a_row} steps in a row were no good; the last: "
            raise TrainingError(error.where, many + error.problem, error.remedy)

    def accept(
        self, step: int, loss: float, counters: Counters, *, is_spike: bool, rows: Rows
    ) -> None:
        """Takes the loss of a good step into the recent ones; notes it if it is a spike."""
        counters.skipped_in_a_row = 0
        if is_spike:
            origins = rows()
            score, median = spike_score(loss, counters.recent), statistics.median(counters.recent)
            line = {"step": step, "event": "loss_spike", "loss": loss, "median": median}
            self._note({**line, "score": round(score, 2), "rows": origins})
            if self._path is not None:
                warn(
                    f"step {step}: the loss is {loss:.4f} where the median of the steps before is "
                    f"{median:.4f}; its rows: {named(origins)}"
                )
        counters.recent = [*counters.recent, loss][-WINDOW:]

    def _note(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            append_line(self._path, line)


def fault_of(loss: float, num_supervised: int, *, gradient_is_finite: bool) -> str:
    """What forbids the update of a step, in words; empty if nothing does."""
    if not num_supervised:
        return NO_TARGETS
    if loss != loss or loss in (float("inf"), float("-inf")):
        return f"the loss is {loss}"
    return "" if gradient_is_finite else "the gradient is not finite"


def are_finite(gradients: Iterable[Tensor | None]) -> bool:
    """Whether all gradients that there are are finite; of a spread one, this rank's part."""
    there = [getattr(g, "to_local", lambda g=g: g)() for g in gradients if g is not None]
    return not there or bool(torch.isfinite(torch.nn.utils.get_total_norm(there)))


def bad_step(
    step: int, fault: str, rows: Sequence[str], alone: Sequence[str] | None
) -> TrainingError:
    """The error of a step that must not update anything, with its rows and what to do.

    Args:
        step: its number.
        fault: what is wrong with it.
        rows: the origins of its rows.
        alone: of these, the ones that are not finite alone; None if nobody knows.
    """
    where = f"step {step}"
    its = "Its row" if len(rows) == 1 else f"Its {len(rows)} rows"
    problem = f"{fault}; nothing was updated by it. {its}: {named(rows)}."
    if fault == NO_TARGETS:
        return TrainingError(
            where,
            problem,
            "All their answers are cut off or not to be learned: look at them with "
            "burnish audit-labels, raise prepare.max_length, or take them out.",
        )
    numbers = "Lower train.learning_rate, or set train.bf16: false."
    if alone is None:
        return TrainingError(where, problem, numbers)
    if not alone:
        return TrainingError(where, f"{problem} Each of them alone is finite.", numbers)
    if len(alone) == len(rows) > 1:
        said = "Each of them alone is not finite, so it is the weights rather than a row."
        return TrainingError(where, f"{problem} {said}", numbers)
    said = f"Not finite alone: {named(alone)}."
    return TrainingError(
        where, f"{problem} {said}", "Look at that row, and mend it or take it out."
    )


def named(rows: Sequence[str]) -> str:
    """The first few rows of a step, and how many more there are."""
    rest = len(rows) - ROWS_SAID
    return ", ".join(rows[:ROWS_SAID]) + (f" and {rest} more" if rest > 0 else "")


def spike_score(loss: float, recent: Sequence[float]) -> float:
    """How far a loss lies above the recent ones, in robust standard deviations.

    With the median m of the recent losses and d, the median of |x - m| (1.4826 d estimates the
    standard deviation of a normal distribution, and neither is moved by a few outliers):

        z = (loss - m) / max(1.4826 d, m / 50)

    The second term keeps losses that hardly vary from making spikes of nothing. Above SPIKE it is
    one: 8 of them is more than normal noise reaches, and heavy-tailed noise once in a thousand
    steps. With fewer than LEAST recent losses, as at the start, where the loss falls fast, it is 0.

    Source: Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers" (modified z-score).
    """
    if len(recent) < LEAST:
        return 0.0
    median = statistics.median(recent)
    deviation = statistics.median(abs(x - median) for x in recent)
    return (loss - median) / max(1.4826 * deviation, abs(median) / 50, 1e-12)


# --- gradients that arrive --------------------------------------------------------------------


def check_gradients(model: Any) -> None:
    """Checks, between backward pass and update, that every adapter layer received a gradient.

    At the start of training LoRA's B is zero, so A's gradient is zero and B's is not; a layer whose
    A and B both have none learns nothing. An expert of a mixture may have seen no token of the
    step: all its layers are without a gradient then, and other experts beside it have one. A model
    without adapter layers (full fine-tuning) must have some gradient at all.

    Raises:
        TrainingError: a layer got no gradient, or one that is not finite.
    """
    layers = list(_adapter_layers(model))
    if not layers:
        layers = [("the model", [p for p in model.parameters() if p.requires_grad])]
    norms = _norms([p for _, parameters in layers for p in parameters])
    arrived: dict[str, bool] = {}
    for name, parameters in layers:
        own = [norms[id(p)] for p in parameters]
        if not all(norm == norm and norm != float("inf") for norm in own):
            raise TrainingError(
                name,
                "its gradient is not finite.",
                "Lower train.learning_rate, or set train.bf16: false.",
            )
        arrived[name] = any(own)
    for name, has_gradient in arrived.items():
        if not has_gradient and not _rests(name, arrived):
            raise TrainingError(
                name,
                "it received no gradient, so training would change nothing.",
                "If the model's forward pass does not use it (the image part of a model that is "
                "tuned on text), name others in train.lora.target_modules. With a 4-bit base on a "
                "CPU this is a known fault of bitsandbytes; update it, or set "
                "model.load_in_4bit: false.",
            )


def _adapter_layers(model: Any) -> Iterator[tuple[str, list[Any]]]:
    for name, module in model.named_modules():
        if hasattr(module, "lora_B"):
            matrices = [*module.lora_A.parameters(), *module.lora_B.parameters()]
            embeddings = getattr(module, "lora_embedding_B", {})
            matrices += [p for name_ in embeddings for p in _embedding_pair(module, name_)]
            learning = [p for p in matrices if p.requires_grad]
            if learning:
                yield name, learning


def _embedding_pair(module: Any, adapter: str) -> tuple[Any, Any]:
    return module.lora_embedding_A[adapter], module.lora_embedding_B[adapter]


def _rests(name: str, arrived: dict[str, bool]) -> bool:
    """Whether a layer may be without a gradient in a step, because others of its block have one.

    That is an expert that saw no token. And a router that chooses one expert gives it the weight 1,
    whatever it says.
    """
    block, _, last = name.rpartition(".")
    if last in ("gate", "router"):
        return any(has for other, has in arrived.items() if other.startswith(f"{block}.experts"))
    found = _EXPERT.match(name)
    if found is None:
        return False
    own = found[0]
    own_arrived = [has for other, has in arrived.items() if other.startswith(own)]
    kin_arrived = [has for other, has in arrived.items() if other.startswith(found[1])]
    return not any(own_arrived) and any(kin_arrived)


def _norms(parameters: Sequence[Any]) -> dict[int, float]:
    """The norm of each gradient by its parameter's id, 0 where there is none; one wait for all."""
    there = [p for p in parameters if p.grad is not None]
    norms: dict[int, float] = {id(p): 0.0 for p in parameters}
    if there:
        found = torch.stack(
            [n.float() for n in torch._foreach_norm([_whole(p.grad) for p in there])]
        )
        norms |= dict(zip(map(id, there), found.tolist(), strict=True))
    return norms


def _whole(gradient: Any) -> Tensor:
    """A gradient that is spread over ranks, put together; all ranks must ask for it."""
    whole: Tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return whole


class EarlyStopping(EarlyStoppingCallback):  # type: ignore[misc]
    """Stops after so many evaluations without a validation loss that is better by a threshold."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **rest: Any) -> None:
        """Counts an evaluation, and says so when it was the last."""
        super().on_evaluate(args, state, control, metrics, **rest)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            count = self.early_stopping_patience_counter
            last = "the last evaluation" if count == 1 else f"the last {count} evaluations"
            say(
                f"step {state.global_step}: training ends here, because {last} brought no better "
                "validation loss (train.early_stopping_patience)"
            )
