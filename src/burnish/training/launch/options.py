"""How a run is spread over processes: the options of the command line, checked before anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from burnish.errors import RecipeError
from burnish.machine import usable_cores
from burnish.models.loading import pick_device
from burnish.progress import warn
from burnish.recipe import ModelSection, TrainSection

STRATEGIES = {
    "torchrun": ("ddp",),
    "accelerate": ("ddp", "fsdp2"),
    "deepspeed": ("zero2", "zero3"),
    "ray": ("ddp",),
}
"""What each engine can do with the weights; the first is taken where none is asked for.

`ddp` keeps them whole in every process, `zero2` spreads gradients and optimizer state over them,
`fsdp2` and `zero3` the weights, too.
"""

SHARDED = ("fsdp2", "zero2", "zero3")

PLAIN_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""Those whose state has the shape of the weights, so that it can be cut into shares and put
together again."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Who starts how many processes, and where.

    Attributes:
        engine: torchrun, accelerate, deepspeed or ray.
        processes: over all nodes; None for one per GPU.
        strategy: one of the engine's STRATEGIES; None for the first.
        nodes: how many machines take part, each with as many processes.
        node: the number of this machine among them.
        address: HOST:PORT of node 0, where there are several.
    """

    engine: str
    processes: int | None = None
    strategy: str | None = None
    nodes: int = 1
    node: int = 0
    address: str | None = None

    @property
    def processes_here(self) -> int:
        """How many processes this machine starts."""
        return (self.processes or 1) // self.nodes

    @property
    def threads(self) -> int:
        """The threads of a process, so that those of one machine share its cores."""
        return max(1, usable_cores() // self.processes_here)


def checked(launch: Launch, model: ModelSection, section: TrainSection) -> Launch:
    """The options with what was left open filled in.

    Raises:
        RecipeError: they don't go together, or not with the recipe.
    """
    if launch.engine not in STRATEGIES:
        raise RecipeError(
            "--launch", f"{launch.engine} is unknown.", f"Take one of {', '.join(STRATEGIES)}."
        )
    allowed = STRATEGIES[launch.engine]
    strategy = launch.strategy or allowed[0]
    if strategy not in allowed:
        engines = [engine for engine, known in STRATEGIES.items() if strategy in known]
        found = f"Take --launch {engines[0]}, or " if engines else "Take "
        raise RecipeError(
            "--strategy",
            f"{launch.engine} has no {strategy}.",
            f"{found}--strategy {' or '.join(allowed)}.",
        )
    if strategy in SHARDED:
        _check_sharding(strategy, model, section)
    launch = replace(launch, strategy=strategy, processes=launch.processes or _one_per_gpu(launch))
    _check_nodes(launch)
    _check_gpus(launch)
    _warn_of_idle_ranks(launch, section)
    return launch


def _one_per_gpu(launch: Launch) -> int:
    import torch

    if not torch.cuda.is_available():
        raise RecipeError(
            "--processes", "there is no GPU here to count.", "Say how many, as --processes 2."
        )
    return torch.cuda.device_count() * launch.nodes


def _check_nodes(launch: Launch) -> None:
    if launch.engine == "ray" and (launch.nodes > 1 or launch.node or launch.address):
        raise RecipeError(
            "--nodes",
            "a Ray cluster knows its nodes.",
            "Leave --nodes, --node-rank and --main-address out; RAY_ADDRESS names the cluster.",
        )
    if (launch.processes or 0) % launch.nodes:
        raise RecipeError(
            "--processes",
            f"{launch.processes} processes can't be the same number on {launch.nodes} nodes.",
            "--processes counts those of all nodes together.",
        )
    host, _, port = (launch.address or "").rpartition(":")
    if launch.nodes > 1 and not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise RecipeError(
            "--main-address",
            "with several nodes each must know the first one.",
            "Give all the same, as --main-address 10.0.0.1:29500.",
        )
    if not 0 <= launch.node < launch.nodes:
        raise RecipeError(
            "--node-rank", f"it is {launch.node} of {launch.nodes} nodes.", "It counts from 0."
        )
    if launch.nodes == 1 and launch.address:
        raise RecipeError(
            "--main-address",
            "one machine needs none.",
            "Leave it out, or say how many take part, as --nodes 2.",
        )


def _check_gpus(launch: Launch) -> None:
    """Each process has a GPU to itself; on one that two share, NCCL fails with words of its own."""
    is_elsewhere = launch.engine == "ray" and "RAY_ADDRESS" in os.environ
    if is_elsewhere or pick_device().type != "cuda":
        return
    import torch

    gpus = torch.cuda.device_count()
    if launch.processes_here > gpus:
        raise RecipeError(
            "--processes",
            f"{launch.processes_here} processes on a machine that has {gpus} GPUs.",
            f"Take --processes {gpus * launch.nodes}; the effective batch stays the recipe's.",
        )


def _check_sharding(strategy: str, model: ModelSection, section: TrainSection) -> None:
    where = f"--strategy {strategy}"
    if pick_device().type != "cuda":
        raise RecipeError(
            where,
            "accelerate shards on GPUs only; on a CPU it would silently keep the weights whole.",
            "Take --strategy ddp.",
        )
    if model.load_in_4bit or model.load_in_8bit:
        raise RecipeError(
            where, "a quantized base can't be spread over processes.", "Take --strategy ddp."
        )
    lora = section.lora
    if section.method != "lora" or lora.use_dora or lora.changes_base or model.new_tokens:
        raise RecipeError(
            where,
            "only plain LoRA is trained on weights that are spread over processes.",
            "Take --strategy ddp, or train.method: lora without use_dora, init_lora_weights and "
            "model.new_tokens.",
        )
    if section.backend == "fast":
        raise RecipeError(
            where, "the fast path needs whole weights.", "Set train.backend: auto, or take ddp."
        )
    if strategy != "fsdp2" and section.bad_steps == "skip":
        raise RecipeError(
            where, "DeepSpeed can't pass over a step.", "Set train.bad_steps: stop, or take ddp."
        )
    if section.optim not in PLAIN_OPTIMIZERS:
        raise RecipeError(
            where,
            f"the state of {section.optim} can't be put together again for checkpoints.",
            f"Set train.optim to {' or '.join(PLAIN_OPTIMIZERS)}.",
        )


def _warn_of_idle_ranks(launch: Launch, section: TrainSection) -> None:
    records = section.per_device_train_batch_size * section.gradient_accumulation_steps
    if section.tokens_per_step is None and (launch.processes or 1) > records:
        warn(
            f"a step has {records} records for {launch.processes} processes, so some stand idle; "
            "the effective batch is what the recipe says, whatever the number of processes"
        )
