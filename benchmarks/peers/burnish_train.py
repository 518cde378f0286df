"""burnish's own loop, as `burnish train` runs it: default, no_prefixes, transformers, int8."""

from __future__ import annotations

from measuring import LEARNING_RATE, Job, Measured, report

from burnish.recipe import LoraSettings, ModelSection, TrainSection
from burnish.run_dir import RunDir
from burnish.training.assembly import build
from burnish.training.journal import METRICS_NAME, read_lines
from burnish.training.metrics import Reporter


def prepared(job: Job) -> RunDir:
    """A run folder that holds the job's records as `burnish prepare` writes them."""
    from datasets import Dataset

    run = RunDir(job.folder)
    rows = [(r["prompt"] + r["completion"], r) for r in job.records]
    columns = {
        "input_ids": [ids for ids, _ in rows],
        "labels": [[-100] * len(r["prompt"]) + r["completion"] for _, r in rows],
        "origin": [f"record {number}" for number in range(len(rows))],
    }
    Dataset.from_dict(columns).save_to_disk(str(run.split("train")))
    empty = {"input_ids": [[0]], "labels": [[0]]}
    Dataset.from_dict(empty).select([]).save_to_disk(str(run.split("validation")), num_shards=1)
    run.folder("train").mkdir(parents=True)
    return run


def main() -> None:
    """Trains on the job's records and reports."""
    job = Job()
    run = prepared(job)
    section = TrainSection(
        lora=LoraSettings(r=16, lora_alpha=32, target_modules="all-linear"),
        num_train_epochs=1.0,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        logging_steps=1,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        bf16=str(job.dtype) == "torch.bfloat16",
        row_length=job.max_length,
        share_prefixes=job.mode != "no_prefixes",
        speed="int8" if job.mode == "int8" else "exact",
        backend="transformers" if job.mode == "transformers" else "fast",
    )
    metrics = run.folder("train") / METRICS_NAME
    trainer = build(ModelSection(name_or_path=job.model), section, run, Reporter(metrics))
    with Measured() as measured:
        trainer.train()
    losses = [line["train/loss"] for line in read_lines(metrics) if "train/loss" in line]
    report(job, measured, losses, trainer.model.float())


if __name__ == "__main__":
    main()
