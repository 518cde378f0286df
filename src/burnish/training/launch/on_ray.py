"""Ranks as workers of Ray Train, on this machine or on the cluster that RAY_ADDRESS names.

A worker that is killed takes the others with it; all are started again and go on from the last good
checkpoint. So the run folder must be one that every node can reach. What a rank has noted as an
error would only come again, so then nothing is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.errors import MissingExtraError
from burnish.models.loading import pick_device
from burnish.progress import warn
from burnish.training.launch.job import Job, forget_notes, read_job, read_notes
from burnish.training.launch.options import Launch

RESTARTS = 3
"""How many times lost workers are started again."""


class RankFailed(Exception):
    """Tells Ray that a rank has failed; why, stands in its note."""


def train_on_ray(launch: Launch, job: Job) -> None:
    """Runs the ranks of a job to their end; how it went is in their notes.

    Raises:
        MissingExtraError: Ray Train is not installed.
    """
    # Must be set before the package is loaded: it reports its use to its makers otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.train
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    from burnish.training import ranks

    gpu = {"GPU": 1} if pick_device().type == "cuda" else {}

    def trainer(attempt: int) -> Any:
        return TorchTrainer(
            _work,
            train_loop_config={"job": str(job.path)},
            torch_config=TorchConfig(
                backend=ranks.backend(), timeout_s=int(ranks.PATIENCE.total_seconds())
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=launch.processes,
                use_gpu=bool(gpu),
                resources_per_worker={"CPU": launch.threads} | gpu,
            ),
            run_config=ray.train.RunConfig(
                name=f"burnish-{attempt}",
                storage_path=str(job.folder / "ray"),
            ),
        )

    with _ray_running(ray, launch):
        for attempt in range(RESTARTS + 1):
            # Why it failed stands in the notes, or a rank has left none.
            with contextlib.suppress(ray.train.TrainingFailedError):
                trainer(attempt).fit()
                return
            if any(note.error for note in read_notes(job.folder)) or attempt == RESTARTS:
                return
            warn("a worker of Ray was lost: all start again from the last checkpoint")
            forget_notes(job.folder)


def _work(config: dict[str, Any]) -> None:
    """A worker's part."""
    from burnish.training.launch.rank import let_first_speak, run_rank

    job = read_job(Path(config["job"]))
    let_first_speak()
    if run_rank(job):
        raise RankFailed


@contextlib.contextmanager
def _ray_running(ray: Any, launch: Launch) -> Iterator[None]:
    """Joins the cluster that RAY_ADDRESS names, or starts Ray on this machine for the while."""
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        ray.init(num_cpus=(launch.processes or 1) * launch.threads, include_dashboard=False)
    _put_back(handlers)
    try:
        yield
    finally:
        ray.shutdown()
        _put_back(handlers)


def _put_back(handlers: dict[signal.Signals, Any]) -> None:
    """Ray puts its own handlers of signals in the place of these."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
