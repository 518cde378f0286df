"""What a run on a GPU is measured by: its second epoch, in which no kernel is compiled any more."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from measuring import Job, held_out_loss, peak_gib
from transformers import TrainerCallback

EPOCHS = 2


class SecondEpoch(TrainerCallback):
    """The seconds from the start of the second epoch to the end of training."""

    def __init__(self) -> None:
        self.seconds = self.started = 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the clock again with every epoch; the last one counts."""
        _wait()
        self.started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stops the clock."""
        _wait()
        self.seconds = time.perf_counter() - self.started


def report(job: Job, epoch: SecondEpoch, model: Any) -> None:
    """Prints the figures of a run on the last line of stdout."""
    figures = {
        "useful_tokens_per_second": job.num_tokens / epoch.seconds,
        "peak_gib": _peak_gib(),
        "held_out_loss": held_out_loss(model, job.held_out),
    }
    print(json.dumps(figures), flush=True)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_gib() -> float:
    """The most that tensors took on the GPU, loading included; without one, the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_gib()
