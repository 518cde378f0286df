"""Which checkpoint a run goes on from, and whether it may.

Every checkpoint notes what it was made from: the rows, how they were rendered, the base, and the
settings. A run whose own differ is refused and told in what, unless `train.allow_changed` names it.
What changes only the last bits (the number of threads, the length of rows) is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import RecipeError, TrainingError
from burnish.progress import say, warn
from burnish.recipe import TrainSection
from burnish.training.agreement import (
    ROUNDING_ONLY,
    WEIGHTS,
    Agreement,
    differences,
    is_of_free_names,
    tell,
    ways_to_name,
)
from burnish.training.checkpoint import RECORD, checkpoints, fault, step_of, tidy

_SUMMED_AT_ONCE = 2**20
"""Numbers of a tensor that its checksum adds at once."""


@dataclass(frozen=True, slots=True)
class Start:
    """The checkpoint that a run goes on from.

    Attributes:
        folder: where it lies.
        record: what is noted in it beside the trainer's own files.
        changed: names in which this run differs, as the recipe allows.
        keeps_best: whether the best checkpoint that it speaks of is there and whole.
    """

    folder: Path
    record: dict[str, Any]
    changed: tuple[str, ...] = ()
    keeps_best: bool = True

    @property
    def step(self) -> int:
        """The optimizer step of the checkpoint."""
        return step_of(self.folder)


def find_start(root: Path, now: Agreement, section: TrainSection) -> Start | None:
    """The newest checkpoint that is whole; None where the run begins at the beginning.

    One that is not whole is passed over with a warning, and so is one whose best checkpoint is not:
    what was best would be lost. If there is no other, the run goes on without the best.

    Raises:
        TrainingError: the checkpoint was made from something else.
        RecipeError: allow_changed names what there is not.
    """
    _check_names(section.allow_changed, now)
    tidy(root)
    folders = checkpoints(root)
    folder, keeps_best = _choose(folders, seeks_best=section.load_best_model_at_end)
    if folder is None:
        if folders:
            warn("no checkpoint can be used: training begins again")
        return None
    record = read_record(folder)
    then = record["made_from"]
    changed = differences(then, now)
    wrong = [name for name in changed if not _may_change(name, section)]
    if wrong:
        raise _refused(folder, [tell(name, then, now) for name in wrong], wrong, section)
    for name in changed:
        same = ", the same but for rounding" if name in ROUNDING_ONLY else ", as allowed"
        say(f"{tell(name, then, now)}: the run goes on{same}")
    return Start(folder, record, tuple(changed), keeps_best)


def read_record(folder: Path) -> dict[str, Any]:
    """What a checkpoint notes beside the trainer's own files."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def pinned(section: TrainSection, start: Start | None) -> TrainSection:
    """The settings, with what `auto` came to when the checkpoint's run began.

    A probe of the machine decides the type of the numbers, and might come out otherwise this time.
    """
    if start is None:
        return section
    made_on = start.record["machine"]
    update: dict[str, Any] = {}
    if section.bf16 == "auto":
        update["bf16"] = made_on["dtype"] == "bfloat16"
    if section.backend == "auto" and made_on["backend"] == "transformers":
        update["backend"] = "transformers"
    return section.model_copy(update=update)


def warn_of_other_machine(start: Start, now: Agreement) -> None:
    """Says what is not as it was, where that changes the last bits of the result."""
    then = start.record["machine"]
    other = [f"{name} {then.get(name)} -> {now[name]}" for name in differences(then, now)]
    if other:
        warn(
            f"{start.folder.name} was made otherwise ({', '.join(other)}): the run goes on, "
            "but not bit for bit as it would have then"
        )


def check_weights(start: Start, name: str, found: Mapping[str, int], section: TrainSection) -> None:
    """Checks that weights are those of a checkpoint, by their checksums.

    Args:
        start: the checkpoint.
        name: `trained` for what was loaded from it, `model.weights` for the base.
        found: the checksums of the weights, by the weights' names.
        section: the recipe's, for what it allows.

    Raises:
        TrainingError: a weight is another, or was not loaded.
    """
    noted = start.record["weights"].get(name, found)
    if noted == found:
        return
    first = next(key for key in {**noted, **found} if noted.get(key) != found.get(key))
    if name != WEIGHTS:
        raise TrainingError(
            str(start.folder),
            f"after loading it, {first} is not what was saved.",
            "Begin again with: burnish train RECIPE --force; or go back to the version of PEFT "
            "that saved it.",
        )
    if not {"bf16", *ways_to_name(WEIGHTS)} & set(section.allow_changed):
        told = f"{tell(WEIGHTS, {}, {})}, {first} to begin with"
        raise _refused(start.folder, [told], ["model"], section)


def checksums(named: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """A checksum of each tensor by name: the sum of its bits, read as integers.

    It tells what was loaded from what was not, at the speed of memory; it is no proof against
    malice.
    """
    import torch

    widths = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = {}
    for name, tensor in named:
        if tensor.device.type == "meta" or not tensor.numel():
            continue  # what this process does not hold
        bits = tensor.data.contiguous().view(widths[tensor.element_size()]).reshape(-1)
        # In pieces: a sum in another type first copies all that it adds.
        pieces = [piece.sum(dtype=torch.int64) for piece in bits.split(_SUMMED_AT_ONCE)]
        sums[name] = int(torch.stack(pieces).sum())
    return sums


def _may_change(name: str, section: TrainSection) -> bool:
    return name in ROUNDING_ONLY or bool({*ways_to_name(name)} & {*section.allow_changed})


def _refused(
    folder: Path, told: Sequence[str], names: Sequence[str], section: TrainSection
) -> TrainingError:
    allowed = ",".join([*section.allow_changed, *names])  # a blank would end the word in a shell
    return TrainingError(
        str(folder),
        f"this run can't go on from there: {'; '.join(told)}.",
        "Put that back as it was; or begin again with: burnish train RECIPE --force; or, to go on "
        f"with the change, add --set train.allow_changed=[{allowed}].",
    )


def _check_names(allowed: Sequence[str], now: Agreement) -> None:
    known = {way for name in [*now, WEIGHTS] for way in ways_to_name(name)}
    for name in allowed:
        if name not in known and not is_of_free_names(name):
            raise RecipeError(
                "train.allow_changed",
                f"{name!r} is nothing that a run has to agree with its checkpoint in.",
                "Name a setting of train (learning_rate, lora.lora_dropout), or data, model or "
                "rendering.",
            )


def _choose(folders: Sequence[Path], *, seeks_best: bool) -> tuple[Path | None, bool]:
    """The newest usable checkpoint, and whether its best one is whole."""
    without_best: Path | None = None
    for folder in reversed(folders):
        problem = fault(folder)
        if problem is None:
            best = read_record(folder)["best_step"] if seeks_best else None
            lost = None
            if best and best != step_of(folder):
                lost = fault(folder.with_name(f"checkpoint-{best}"))
            if lost is None:
                return folder, True
            without_best = without_best or folder
            problem = f"the best so far is checkpoint-{best}, and {lost}"
        warn(f"{folder.name} can't be used: {problem}; going back to the one before")
    if without_best is not None:
        warn(f"the best adapter so far is lost: going on from {without_best.name} without it")
    return without_best, False
