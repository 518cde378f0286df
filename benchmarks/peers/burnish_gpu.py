"""burnish's own loop on a GPU. Modes: default, compile, no_liger, sdpa, fast."""

from __future__ import annotations

from burnish_train import prepared
from measuring import LEARNING_RATE, Job
from measuring_gpu import EPOCHS, SecondEpoch, report

from burnish.recipe import LoraSettings, ModelSection, TrainSection
from burnish.training.assembly import build
from burnish.training.journal import METRICS_NAME
from burnish.training.metrics import Reporter

MODES = {
    "default": {},
    "compile": {"torch_compile": True},
    "no_liger": {"use_liger_kernel": False},
    "sdpa": {},
    "fast": {"backend": "fast"},
}


def main() -> None:
    """Trains on the job's records and reports."""
    job = Job()
    run = prepared(job)
    row_length = job.max_length * job.rows
    section = TrainSection(
        lora=LoraSettings(r=16, lora_alpha=32, target_modules="all-linear"),
        num_train_epochs=float(EPOCHS),
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        bf16=str(job.dtype) == "torch.bfloat16",
        row_length=row_length,
        tokens_per_step=2 * row_length,
        **MODES[job.mode],
    )
    attention = "sdpa" if job.mode == "sdpa" else "auto"
    model = ModelSection(name_or_path=job.model, attn_implementation=attention)
    trainer = build(model, section, run, Reporter(run.folder("train") / METRICS_NAME))
    epoch = SecondEpoch()
    trainer.add_callback(epoch)
    trainer.train()
    report(job, epoch, trainer.model)


if __name__ == "__main__":
    main()
