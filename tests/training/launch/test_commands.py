"""The command of each engine, and files that the engines' own code accepts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from burnish.recipe import ModelSection, TrainSection
from burnish.training.launch.commands import accelerate_config, command, zero_config
from burnish.training.launch.job import Job
from burnish.training.launch.options import Launch


def job(tmp_path):
    return Job(ModelSection(), TrainSection(), tmp_path / "run", tmp_path, tmp_path)


def commanded(tmp_path, launch, **options):
    found = command(launch, job(tmp_path), **{"use_cpu": True, "bf16": False, **options})
    assert found[:3] == [sys.executable, "-m", "burnish.training.launch.engine"]
    assert found[-3:] == ["-m", "burnish.training.launch.rank", str(tmp_path / "job.json")]
    return found[3:-3]


def test_torchrun_starts_the_processes_of_one_machine(tmp_path):
    found = commanded(tmp_path, Launch("torchrun", 2, "ddp"))
    assert found == ["torchrun", "--standalone", "--nproc-per-node=2"]


def test_torchrun_on_several_machines_is_told_the_first(tmp_path):
    found = commanded(tmp_path, Launch("torchrun", 8, "ddp", nodes=2, node=1, address="h:29500"))
    assert found == [
        "torchrun", "--nnodes=2", "--node-rank=1", "--nproc-per-node=4", "--master-addr=h",
        "--master-port=29500",
    ]  # fmt: skip


def test_torchs_own_parser_takes_the_options(tmp_path):
    from torch.distributed.run import parse_args

    launch = Launch("torchrun", 8, "ddp", nodes=2, node=1, address="h:29500")
    rest = command(launch, job(tmp_path), use_cpu=True, bf16=False)[4:]
    taken = parse_args(rest)
    assert (taken.nnodes, taken.node_rank, taken.nproc_per_node) == ("2", 1, "4")
    assert (taken.master_addr, taken.master_port, taken.module) == ("h", 29500, True)


@pytest.mark.parametrize("strategy, kind", [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP")])
def test_accelerate_gets_a_file_that_it_reads_back(tmp_path, strategy, kind):
    from accelerate.commands.config.config_args import load_config_from_file

    found = commanded(tmp_path, Launch("accelerate", 2, strategy))
    file = str(tmp_path / "accelerate.json")
    assert found == ["accelerate", "--config_file", file, "--mixed_precision", "no"]
    read = load_config_from_file(file)
    assert (str(read.distributed_type.value), read.num_processes) == (kind, 2)
    assert read.use_cpu
    assert (read.fsdp_config or {}).get("fsdp_version") == (2 if strategy == "fsdp2" else None)


def test_accelerate_on_several_machines_is_told_the_first():
    launch = Launch("accelerate", 8, "ddp", nodes=2, node=1, address="10.0.0.1:1234")
    config = accelerate_config(launch, use_cpu=False)
    assert (config["num_machines"], config["machine_rank"]) == (2, 1)
    assert (config["main_process_ip"], config["main_process_port"]) == ("10.0.0.1", 1234)


@pytest.mark.parametrize("strategy, stage", [("zero2", 2), ("zero3", 3)])
def test_deepspeed_gets_a_file_that_accelerate_takes(tmp_path, strategy, stage):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    launch = Launch("deepspeed", 2, strategy)
    commanded(tmp_path, launch, bf16=True)
    read = load_config_from_file(str(tmp_path / "accelerate.json"))
    assert read.distributed_type.value == "DEEPSPEED"
    path = Path(read.deepspeed_config["deepspeed_config_file"])
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config == zero_config(launch, bf16=True, use_cpu=True)
    assert config["zero_optimization"]["stage"] == stage
    assert config["bf16"] == {"enabled": True}
    accepted = HfDeepSpeedConfig(str(path))
    assert (accepted.is_zero2(), accepted.is_zero3()) == (stage == 2, stage == 3)
    assert not accepted.is_offload()
