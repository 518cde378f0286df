"""Ranks as workers of Ray Train, on this machine or on the cluster that RAY_ADDRESS names.

A worker that is killed takes the others with it; Ray starts all of them again, and they go on from
the last good checkpoint. So the run folder must be one that every node can reach.
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
from burnish.training.launch.job import Job, read_job, read_notes
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
    with _ray_running(ray, launch):
        trainer = TorchTrainer(
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
                name="burnish",
                storage_path=str(job.folder / "ray"),
                failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
            ),
        )
        # Why it failed stands in the notes, or a rank has left none.
        with contextlib.suppress(ray.train.TrainingFailedError):
            trainer.fit()


def _work(config: dict[str, Any]) -> None:
    """A worker's part; what is sure to fail again fails at once."""
    from burnish.training.launch.rank import let_first_speak, run_rank

    job = read_job(Path(config["job"]))
    if any(note.error for note in read_notes(job.folder)):
        raise RankFailed
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
