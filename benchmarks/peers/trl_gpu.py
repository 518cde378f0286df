"""TRL's SFTTrainer with Liger's kernels on a GPU. Modes: packing (bfd), padded.

Attention is flash-attn's where that package is installed, else sdpa.
"""

from __future__ import annotations

import importlib.util

import torch
from datasets import Dataset
from measuring import LEARNING_RATE, TARGETS, Job
from measuring_gpu import EPOCHS, SecondEpoch, report
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Trains on the job's records and reports."""
    job = Job()
    on_gpu = torch.cuda.is_available()
    flash = on_gpu and importlib.util.find_spec("flash_attn") is not None
    config = SFTConfig(
        str(job.folder),
        num_train_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        per_device_train_batch_size=job.rows,
        gradient_accumulation_steps=2,
        gradient_checkpointing=False,
        packing=job.mode == "packing",
        packing_strategy="bfd",
        use_liger_kernel=on_gpu,
        save_strategy="no",
        report_to=[],
        seed=0,
        bf16=on_gpu and job.dtype == torch.bfloat16,
        use_cpu=not on_gpu,
        disable_tqdm=True,
        max_length=job.max_length,
        model_init_kwargs={
            "dtype": job.dtype,
            "attn_implementation": "flash_attention_2" if flash else "sdpa",
        },
    )
    epoch = SecondEpoch()
    trainer = SFTTrainer(
        job.model,
        args=config,
        train_dataset=Dataset.from_list(job.chats()),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"),
        callbacks=[epoch],
    )
    trainer.train()
    report(job, epoch, trainer.model)


if __name__ == "__main__":
    main()
