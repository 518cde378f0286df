"""What a plan says: the report that is printed, and as one JSON object with --json."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ModelLook(BaseModel):
    """The model and its adapter."""

    model_config = ConfigDict(frozen=True)

    name: str
    weights: int
    weights_per_token: int
    trained_weights: int


class DataLook(BaseModel):
    """The rows of an epoch; `padding` and `packing` are shares from 0 to 1."""

    model_config = ConfigDict(frozen=True)

    source: str
    num_examples: int
    num_tokens: int
    num_supervised_tokens: int
    longest: int
    num_cut: int
    padding_of_this_loop: float
    packing_efficiency: float


class MemoryLook(BaseModel):
    """GiB by part at the worst moment of training on a device, and whether that fits."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    weights: float
    adapters: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    others: float
    peak: float
    worst_moment: str
    available: float | None
    fits: bool | None


class TimeLook(BaseModel):
    """How long training takes on this machine, evaluations included."""

    model_config = ConfigDict(frozen=True)

    measured: str
    micro_batches_per_epoch: int
    steps: int
    seconds_per_step: float
    cpu_seconds_per_step: float
    seconds_per_epoch: float
    seconds_of_evaluation: float
    hours: float
    cost: float | None


class PlanReport(BaseModel):
    """What a recipe needs, whether it fits, and what would make it fit."""

    model_config = ConfigDict(frozen=True)

    model: ModelLook
    data: DataLook
    memory_gib: dict[str, MemoryLook]
    time: TimeLook | None
    disk_gib: dict[str, float]
    fits: bool
    changes_that_fit: list[str]
    notes: list[str]
