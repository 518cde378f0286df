"""TRL's SFTTrainer. Modes: default (checkpointing on), no_checkpointing, packing (bfd)."""

from __future__ import annotations

from datasets import Dataset
from measuring import LEARNING_RATE, TARGETS, Job, Measured, report
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

SETTINGS = {
    "default": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "no_checkpointing": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": False,
    },
    "packing": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": False,
        "packing": True,
        "packing_strategy": "bfd",
    },
}


def main() -> None:
    """Trains on the job's records and reports."""
    job = Job()
    config = SFTConfig(
        str(job.folder),
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        seed=0,
        bf16=False,
        use_cpu=True,
        disable_tqdm=True,
        max_length=job.max_length,
        train_sampling_strategy="sequential",
        model_init_kwargs={"dtype": job.dtype},
        **SETTINGS[job.mode],
    )
    trainer = SFTTrainer(
        job.model,
        args=config,
        train_dataset=Dataset.from_list(job.chats()),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"),
    )
    with Measured() as measured:
        trainer.train()
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    report(job, measured, losses, trainer.model.float())


if __name__ == "__main__":
    main()
