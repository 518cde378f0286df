"""Training in several processes: starts an engine, waits for its ranks, makes one answer of theirs.

This process holds the run folder and its manifest; the ranks run the stage function.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from burnish.errors import BurnishError, TrainingError
from burnish.exits import GRACE_SECONDS, wait_for
from burnish.models.loading import pick_device, pick_dtype
from burnish.progress import say
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir
from burnish.training.launch.commands import command
from burnish.training.launch.job import Job, Note, read_notes
from burnish.training.launch.on_ray import train_on_ray
from burnish.training.launch.options import Launch
from burnish.training.train import TrainReport


def launch(model: ModelSection, section: TrainSection, run: RunDir, *, how: Launch) -> TrainReport:
    """Trains as the stage does, in several processes; the effective batch stays the recipe's.

    Args:
        model: the recipe's section.
        section: the recipe's section.
        run: the run folder.
        how: options that were `checked`, before the stage's folder was cleared for this run.

    Raises:
        TrainingError: what stopped a rank; all others end with it.
    """
    with _job(model, section, run, how.node) as job:
        say(f"training in {how.processes} processes ({how.engine}, {how.strategy})")
        _start(how, job)
        return _outcome(how, read_notes(job.folder))


def join(model: ModelSection, section: TrainSection, run: RunDir, *, how: Launch) -> None:
    """Starts the ranks of a node that is not the first, and waits for them.

    Raises:
        TrainingError: what stopped a rank here.
    """
    with _job(model, section, run, how.node) as job:
        say(f"joining as node {how.node} of {how.nodes}, {how.processes_here} processes")
        _start(how, job)
        _check_all_ended_well(how, read_notes(job.folder), how.processes_here)


@contextlib.contextmanager
def _job(model: ModelSection, section: TrainSection, run: RunDir, node: int) -> Iterator[Job]:
    """What the ranks of this node are told, in a folder that is gone afterwards."""
    folder = (run.path / f".launch-{node}").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = Job(model, section, run.path, Path.cwd(), folder)
    job.write()
    try:
        yield job
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(how: Launch, job: Job) -> None:
    """Runs the engine to its end, whatever that is; how it went is in the notes."""
    if how.engine == "ray":
        train_on_ray(how, job)
        return
    environment = os.environ | {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    environment.setdefault("OMP_NUM_THREADS", str(how.threads))
    # Less than this process waits for the engine, which would leave its ranks alone.
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_SECONDS - 5))
    arguments = command(
        how,
        job,
        use_cpu=pick_device().type == "cpu",
        bf16=str(pick_dtype(job.section.bf16, training=True)) == "torch.bfloat16",
    )
    sys.stdout.flush()
    # What ranks print is for the reader of stderr: stdout is the report's. Ctrl-C reaches this
    # process alone, which hands it on once.
    engine = subprocess.Popen(arguments, env=environment, stdout=2, start_new_session=True)
    try:
        wait_for(engine)
    except (SystemExit, KeyboardInterrupt):
        for note in read_notes(job.folder):
            if note.exit_code is not None:
                sys.exit(note.exit_code)  # what they were asked to do is done
        raise


def _outcome(how: Launch, notes: Sequence[Note]) -> TrainReport:
    _check_all_ended_well(how, notes, how.processes_here)
    (report,) = (note.report for note in notes if note.rank == 0)
    return TrainReport.model_validate(report)


def _check_all_ended_well(how: Launch, notes: Sequence[Note], expected: int) -> None:
    errors = [note for note in notes if note.error]
    if errors:
        raise _error_of(errors, how)
    for note in notes:
        if note.exit_code is not None:
            sys.exit(note.exit_code)
    silent = _silent(how, notes, expected)
    if silent:
        why = ", perhaps for want of memory; the others were stopped."
        if not notes:
            why = f": {how.engine} could not start it, as said above, or memory ran out."
        raise TrainingError(
            f"rank {', '.join(map(str, silent))} of {how.processes}",
            f"it ended without a word{why}",
            "What is saved stays: run it again and it goes on from the last checkpoint.",
        )
    lost = next((note for note in notes if note.is_lost), None)
    if lost and how.nodes == 1:
        raise TrainingError(
            f"node {how.node}",
            f"the connection to the other ranks was lost: {lost.said}.",
            "What is saved stays: run it again and it goes on from the last checkpoint.",
        )
    if lost:
        raise TrainingError(
            f"node {how.node}",
            f"the connection to the ranks of another node was lost: {lost.said}.",
            "What stopped those is said there. What is saved stays: run it again.",
        )


def _error_of(errors: Sequence[Note], how: Launch) -> BurnishError:
    """The first rank's error; its rank is named unless all ranks met the same."""
    first = errors[0]
    where, problem, remedy = first.error or ("", "", "")
    is_of_all = len(errors) == how.processes and len({note.error for note in errors}) == 1
    if not is_of_all:
        where = f"rank {first.rank} of {how.processes}, {where}"
    return TrainingError(where, problem, remedy)


def _silent(how: Launch, notes: Sequence[Note], expected: int) -> list[int]:
    """The ranks of this node that left no note."""
    start = how.node * how.processes_here
    return sorted(set(range(start, start + expected)) - {note.rank for note in notes})
