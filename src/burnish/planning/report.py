"""What a plan says: the report that is printed, and as one JSON object with --json."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from burnish.planning.memory import Memory


class ModelLook(BaseModel):
    """The model and its adapter."""

    model_config = ConfigDict(frozen=True)

    name: str
    layers: int
    weights: int
    weights_per_token: int
    trained_weights: int


class DataLook(BaseModel):
    """The rows of an epoch; `packing_efficiency` is a share from 0 to 1.

    Fewer tokens are computed than there are where records share their beginning.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    num_examples: int
    num_tokens: int
    num_computed_tokens: int
    num_supervised_tokens: int
    longest: int
    num_cut: int
    packing_efficiency: float


class MemoryLook(Memory):
    """What training takes on a device, and whether that fits; None where nobody knows."""

    available: float | None
    fits: bool | None


class TimeLook(BaseModel):
    """How long training takes on this machine, evaluations included."""

    model_config = ConfigDict(frozen=True)

    measured: str
    rows_per_epoch: int
    steps: int
    seconds_per_step: float
    cpu_seconds_per_step: float
    seconds_per_epoch: float
    seconds_of_evaluation: float
    hours: float
    cost: float | None


class ProcessLook(BaseModel):
    """One of several processes: its memory, and the time of a step.

    A step takes `compute + communication`, as if nothing of the two went on at once; None where
    compute is not known.
    """

    model_config = ConfigDict(frozen=True)

    memory_gib: float
    communicated_gib: float
    seconds_of_communication: float
    seconds_per_step: float | None


class ClusterLook(BaseModel):
    """A step on several processes like this machine or GPU, by how the work is shared."""

    model_config = ConfigDict(frozen=True)

    processes: int
    link: str
    ways: dict[str, ProcessLook]


class PlanReport(BaseModel):
    """What a recipe needs, whether it fits, and what would make it fit."""

    model_config = ConfigDict(frozen=True)

    model: ModelLook
    data: DataLook
    memory_gib: dict[str, MemoryLook]
    time: TimeLook | None
    cluster: ClusterLook | None
    disk_gib: dict[str, float]
    fits: bool
    changes_that_fit: list[str]
    notes: list[str]
