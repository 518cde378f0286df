"""What a checkpoint is made from, by name, and in what two such agreements differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from burnish.models.names import find_model, fingerprint
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import RunDir, file_sha256

Agreement = dict[str, Any]
"""Names and values: `learning_rate`, `lora.r`, `data.train`, `rendering`, `model.files`."""

WITHOUT_EFFECT = frozenset(
    {
        "allow_changed",
        "bad_steps",
        "logging_steps",
        "logging_strategy",
        "per_device_eval_batch_size",
        "report_to",
        "samples",
        "samples_max_new_tokens",
        "save_steps",
        "save_strategy",
        "save_total_limit",
    }
)
"""Settings that do not change what is trained."""

ROUNDING_ONLY = frozenset(
    {
        "activation_offloading",
        "backend",
        "gradient_checkpointing",
        "model.attn_implementation",
        "packing",
        "row_length",
        "share_prefixes",
        "torch_compile",
        "use_liger_kernel",
    }
)
"""Settings that change no more than the order of sums."""

WEIGHTS = "model.weights"

_FREE_NAMES = frozenset(
    name for name, field in TrainSection.model_fields.items() if isinstance(field.default, dict)
)

_WORDS = {
    "data.train": "the training rows",
    "data.validation": "the validation rows",
    "rendering": "how conversations are rendered",
    "model.files": "the base model's config or tokenizer",
    WEIGHTS: "the weights of the base model",
}
_OF_MODEL_ELSEWHERE = frozenset(
    {
        "allow_pickle",
        "chat_template",
        "end_of_answer",
        "name_or_path",
        "revision",
        "trust_remote_code",
    }
)
"""Where and how a model is found, and its template: its files and the certificate say more."""


def agreement(model: ModelSection, section: TrainSection, run: RunDir) -> Agreement:
    """What a checkpoint of this run is made from, as far as that is known without the weights."""
    settings = _flat(section.model_dump(mode="json"))
    batch = settings.pop("per_device_train_batch_size"), settings.pop("gradient_accumulation_steps")
    settings["examples_per_step"] = batch[0] * batch[1]
    of_model = _flat(model.model_dump(mode="json"))
    return {
        "data.train": rows_sha256(run.split("train")),
        "data.validation": rows_sha256(run.split("validation")),
        "rendering": file_sha256(run.prompts),
        "model.files": fingerprint(find_model(model), weights=False),
        **{f"model.{k}": v for k, v in of_model.items() if k not in _OF_MODEL_ELSEWHERE},
        **{name: value for name, value in settings.items() if name not in WITHOUT_EFFECT},
    }


def rows_sha256(split: Path) -> str:
    """The hash of the ids and labels of a prepared split, whatever else lies in its files."""
    from datasets import load_from_disk

    table = load_from_disk(str(split)).data.table
    found = hashlib.sha256()
    for name in ("input_ids", "labels"):
        for column in (table.column(name).chunks, _lengths(table.column(name))):
            for chunk in column:
                values = chunk.flatten() if hasattr(chunk, "flatten") else chunk
                found.update(values.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return found.hexdigest()


def machine(*, dtype: str, backend: str, processes: int, threads: int, device: str) -> Agreement:
    """What decides the last bits of a run: libraries, device, and how the work is divided."""
    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "peft")}
    return libraries | {
        "dtype": dtype,
        "backend": backend,
        "processes": processes,
        "threads": threads,
        "device": device,
    }


def differences(then: Agreement, now: Agreement) -> list[str]:
    """In what two agreements differ; a setting that was not yet there had its default."""
    default = _flat(TrainSection().model_dump(mode="json"))
    gone = [name for name in then if name not in now and is_of_free_names(name)]
    return [name for name in [*now, *gone] if then.get(name, default.get(name)) != now.get(name)]


def is_of_free_names(name: str) -> bool:
    """Whether a name stands in a setting that takes any, such as `optim_args.rank`.

    One that is gone from there was taken out; any other that is gone is a setting of the past.
    """
    return name.partition(".")[0] in _FREE_NAMES


def tell(name: str, then: Agreement, now: Agreement) -> str:
    """A difference in words."""
    if name in _WORDS:
        return f"{_WORDS[name]} changed"
    where = name if name.startswith("model.") else f"train.{name}"
    return f"{where} was {then.get(name)}, is {now.get(name)}"


def ways_to_name(name: str) -> list[str]:
    """By which names a difference can be allowed: `lora.r` also by `lora`."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _lengths(column: Any) -> list[Any]:
    return [chunk.value_lengths() for chunk in column.chunks]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Agreement:
    flat: Agreement = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
