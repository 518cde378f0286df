"""LLaMA-Factory's sft. Modes: default (checkpointing), packing (neat, no checkpointing)."""

from __future__ import annotations

import json

import torch
from llamafactory.train.tuner import run_exp
from measuring import LEARNING_RATE, Job, Measured, report
from transformers import Trainer

MODES = {
    "default": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "packing": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "packing": True,
        "neat_packing": True,
        "disable_gradient_checkpointing": True,
    },
}


def main() -> None:
    """Trains on the job's records and reports."""
    job = Job()
    job.folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"instruction": r["user"], "input": "", "output": r["output"], "system": r["system"]}
        for r in job.records
    ]
    (job.folder / "rows.json").write_text(json.dumps(rows))
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    info = {"rows": {"file_name": "rows.json", "columns": columns}}
    (job.folder / "dataset_info.json").write_text(json.dumps(info))
    train, kept = Trainer.train, {}

    def measured_train(self: Trainer, *args: object, **kwargs: object) -> object:
        with Measured() as measured:
            result = train(self, *args, **kwargs)
        kept.update(measured=measured, trainer=self)
        return result

    Trainer.train = measured_train
    run_exp(
        {
            "model_name_or_path": job.model,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": 16,
            "lora_alpha": 32,
            "lora_dropout": 0.0,
            "lora_target": "all",
            "dataset": "rows",
            "dataset_dir": str(job.folder),
            "template": "smollm2",
            "cutoff_len": job.max_length,
            "output_dir": str(job.folder / "out"),
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "learning_rate": LEARNING_RATE,
            "num_train_epochs": 1.0,
            "lr_scheduler_type": "constant",
            "seed": 0,
            "disable_shuffling": True,
            "pure_bf16": job.dtype == torch.bfloat16,
            "use_cpu": True,
            **MODES[job.mode],
        }
    )
    trainer = kept["trainer"]
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    report(job, kept["measured"], losses, trainer.model.float())


if __name__ == "__main__":
    main()
