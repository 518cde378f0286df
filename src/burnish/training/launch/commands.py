"""The command line and the configuration files of each engine."""

from __future__ import annotations

import sys
from typing import Any

from burnish.run_dir import write_json
from burnish.training.launch.job import Job
from burnish.training.launch.options import Launch

RANK = "burnish.training.launch.rank"
ENGINE = "burnish.training.launch.engine"


def command(launch: Launch, job: Job, *, use_cpu: bool, bf16: bool) -> list[str]:
    """The command that starts this node's ranks; configuration files are written into the job."""
    start = [sys.executable, "-m", ENGINE]
    rank = ["-m", RANK, str(job.path)]
    if launch.engine == "torchrun":
        return [*start, "torchrun", *_torchrun_options(launch), *rank]
    config = accelerate_config(launch, use_cpu=use_cpu)
    if launch.engine == "deepspeed":
        zero = job.folder / "zero.json"
        write_json(zero, zero_config(launch, bf16=bf16, use_cpu=use_cpu))
        config["deepspeed_config"] = {
            "deepspeed_config_file": str(zero),
            "zero3_init_flag": False,
            "deepspeed_multinode_launcher": "standard",
        }
    path = job.folder / "accelerate.json"
    write_json(path, config)
    # Beside a file of DeepSpeed's, accelerate refuses a precision in its own.
    return [*start, "accelerate", "--config_file", str(path), "--mixed_precision", "no", *rank]


def _torchrun_options(launch: Launch) -> list[str]:
    processes = f"--nproc-per-node={launch.processes_here}"
    if launch.nodes == 1:
        return ["--standalone", processes]
    host, _, port = (launch.address or "").rpartition(":")
    nodes = [f"--nnodes={launch.nodes}", f"--node-rank={launch.node}"]
    return [*nodes, processes, f"--master-addr={host}", f"--master-port={port}"]


def accelerate_config(launch: Launch, *, use_cpu: bool) -> dict[str, Any]:
    """A configuration file for accelerate.

    Mixed precision is off, by an option: which weights are in bfloat16 is up to the recipe, and
    adapters stay in float32.

    Source: accelerate, "The Command Line"; "Fully Sharded Data Parallel".
    """
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": kinds[launch.strategy or "ddp"],
        "use_cpu": use_cpu,
        "num_processes": launch.processes,
        "num_machines": launch.nodes,
        "machine_rank": launch.node,
        "main_process_port": 0,
        "rdzv_backend": "static",
        "same_network": True,
    }
    if launch.nodes > 1:
        host, _, port = (launch.address or "").rpartition(":")
        config |= {"main_process_ip": host, "main_process_port": int(port)}
    if launch.strategy == "fsdp2":
        config["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_cpu_ram_efficient_loading": False,
            "fsdp_offload_params": False,
            "fsdp_reshard_after_forward": True,
            "fsdp_state_dict_type": "FULL_STATE_DICT",
        }
    return config


def zero_config(launch: Launch, *, bf16: bool, use_cpu: bool) -> dict[str, Any]:
    """A configuration file for DeepSpeed.

    Batch sizes are `auto` and have no effect: a step has as many rows as its records fill, and the
    trainer says which is the last.

    Source: DeepSpeed, "DeepSpeed Configuration JSON"; transformers, "DeepSpeed".
    """
    zero: dict[str, Any] = {
        "stage": 3 if launch.strategy == "zero3" else 2,
        "overlap_comm": not use_cpu,
        "contiguous_gradients": True,
    }
    if launch.strategy == "zero3":
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bf16},
        "steps_per_print": 2**31 - 1,
    }
