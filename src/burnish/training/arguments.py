"""A recipe's settings under the names of Hugging Face's TrainingArguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.models.loading import pick_device
from burnish.progress import say
from burnish.recipe import TrainSection


def training_arguments(section: TrainSection, output_dir: Path, *, has_validation: bool) -> Any:
    """Hugging Face's TrainingArguments for a recipe; without validation rows nothing evaluates."""
    from transformers import TrainingArguments

    if not has_validation and section.eval_strategy != "no":
        say("there are no validation rows, so nothing is evaluated and the last adapter is kept")
    settings = section.model_dump(
        exclude={
            "lora",
            "method",
            "freeze_trainable_layers",
            "neftune_noise_alpha",
            "optim_args",
            "bf16",
            "backend",
            "torch_compile",
            "use_liger_kernel",
            "packing",
            "row_length",
            "share_prefixes",
            "speed",
            "tokens_per_step",
            "z_loss",
            "label_smoothing_factor",
            "gradient_checkpointing",
            "activation_offloading",
            "warmup_ratio",
            "early_stopping_patience",
            "early_stopping_threshold",
            "bad_steps",
            "samples",
            "samples_max_new_tokens",
            "report_to",
            "allow_changed",
            "save_total_limit",
            "metric_for_best_model",
            "greater_is_better",
        }
    )
    settings["warmup_steps"] = section.warmup_steps or section.warmup_ratio
    settings |= _optimizer_names(section)
    settings["report_to"] = "none"  # trackers.py writes the same names to all of them
    best = has_validation and section.load_best_model_at_end
    settings["load_best_model_at_end"] = best
    if not has_validation:
        settings |= {"eval_strategy": "no", "eval_steps": None}
    on_cpu = pick_device().type == "cpu"
    return TrainingArguments(
        output_dir=str(output_dir),
        metric_for_best_model="eval_loss" if has_validation else None,
        greater_is_better=False if has_validation else None,
        remove_unused_columns=False,
        restore_callback_states_from_checkpoint=True,
        logging_nan_inf_filter=False,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=True,
        **settings | {"gradient_accumulation_steps": 1},
    )


def _optimizer_names(section: TrainSection) -> dict[str, Any]:
    """The optimizer and what it takes, as TrainingArguments has it."""
    if section.optim == "muon":
        return {"optim": "adamw_torch"}  # burnish makes Muon itself, and the Trainer takes it
    if not section.optim.startswith(("galore", "apollo")):
        return {}
    packed = ",".join(f"{name}={value}" for name, value in section.optim_args.items())
    return {"optim_target_modules": "all-linear", "optim_args": packed or None}
