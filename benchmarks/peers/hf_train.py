"""transformers.Trainer + PEFT with dynamic padding. Modes: default, group (rows of like length)."""

from __future__ import annotations

import torch
from datasets import Dataset
from measuring import LEARNING_RATE, TARGETS, Job, Measured, report
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    """Trains on the job's records and reports."""
    job = Job()
    rows = [
        {
            "input_ids": r["prompt"] + r["completion"],
            "attention_mask": [1] * (len(r["prompt"]) + len(r["completion"])),
            "labels": [-100] * len(r["prompt"]) + r["completion"],
        }
        for r in job.records
    ]
    for row in rows:
        row["length"] = len(row["input_ids"])
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=job.dtype)
    torch.manual_seed(0)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    arguments = TrainingArguments(
        str(job.folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        train_sampling_strategy="group_by_length" if job.mode == "group" else "sequential",
    )
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    )
    with Measured() as measured:
        trainer.train()
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    report(job, measured, losses, model.float())


if __name__ == "__main__":
    main()
