"""The doctor verb: what this machine has, and which model sizes it can tune."""

from __future__ import annotations

import math
import platform
import shutil
from importlib import metadata, util
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from burnish import __version__
from burnish.errors import first_line
from burnish.machine import GIB, memory_gib, usable_cores
from burnish.models.embedded import cache_folder

TIERS = (0.135, 0.5, 1.5, 3, 7, 14, 32, 72)
"""Model sizes in billions of weights that people tune."""

WAYS = {"full": 2.0, "8-bit": 1.1, "4-bit": 0.6}
"""Bytes a weight of the base takes; quantized ones with their scales and unquantized layers."""

_OPTIONAL = ("torch", "peft", "accelerate", "bitsandbytes", "lm_eval", "fastapi", "uvicorn",
             "matplotlib", "modelscope", "flash_attn", "liger_kernel")  # fmt: skip


class DoctorReport(BaseModel):
    """What was found; `largest_model_billions` goes by how the base is held (full, 8 or 4 bits)."""

    model_config = ConfigDict(frozen=True)

    burnish: str
    python: str
    system: str
    cores: int
    memory_gib: float
    disk_free_gib: float
    gpus: list[dict[str, Any]]
    packages: dict[str, str | None]
    hub_login: bool
    cache: str
    largest_model_billions: dict[str, float | None]
    advice: list[str]


def doctor() -> DoctorReport:
    """Looks at Python, packages, processor, memory, disk, GPUs and the hub log-in."""
    packages = {name: _version(name) for name in _OPTIONAL}
    gpus, fault = _gpus() if packages["torch"] else ([], "")
    memory = memory_gib()
    room = max((gpu["memory_gib"] for gpu in gpus), default=memory)
    largest = {way: largest_model(room, way, on_gpu=bool(gpus)) for way in WAYS}
    return DoctorReport(
        burnish=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        cores=usable_cores(),
        memory_gib=round(memory, 1),
        disk_free_gib=round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        gpus=gpus,
        packages=packages,
        hub_login=_logged_in(),
        cache=str(cache_folder()),
        largest_model_billions=largest,
        advice=[*([fault] if fault else []), *_advice(packages, gpus)],
    )


def memory_needed_gib(billions: float, way: str, *, on_gpu: bool) -> float:
    """Memory to tune a model with LoRA (r 16, 1024 tokens, micro batch 1, checkpointing).

    Weights at the width of `way`, adapter with gradient and AdamW state (about 0.6 % of the
    weights at 16 bytes each), activations, and the frame around it: a CUDA context, or the
    libraries in this process. An estimate by arithmetic, meant to be a little high.
    """
    bytes_per_weight = WAYS[way] if on_gpu or way != "full" else 4.0  # a CPU trains in float32
    weights = billions * 1e9 * bytes_per_weight / GIB
    adapter = billions * 1e9 * 0.006 * 16 / GIB
    activations = 0.35 * math.pow(billions, 0.6) + 0.4
    return weights + adapter + activations + (1.0 if on_gpu else 0.7)


def largest_model(room_gib: float, way: str, *, on_gpu: bool) -> float | None:
    """The largest size of TIERS that fits in 90 % of the memory, or None."""
    fitting = [
        size for size in TIERS if memory_needed_gib(size, way, on_gpu=on_gpu) <= 0.9 * room_gib
    ]
    return max(fitting, default=None)


def _advice(packages: dict[str, str | None], gpus: list[dict[str, Any]]) -> list[str]:
    advice = []
    missing = {"torch": "train", "lm_eval": "eval", "fastapi": "serve", "bitsandbytes": "bnb"}
    for package, extra in missing.items():
        if packages[package] is None:
            advice.append(f"{package} is not installed: pip install 'burnish[{extra}]'")
    if packages["torch"] and not gpus and shutil.which("nvidia-smi"):
        advice.append("there is an NVIDIA driver, but this torch sees no GPU: install a CUDA build")
    for package in ("flash-attn", "liger-kernel"):
        if gpus and packages[package.replace("-", "_")] is None:
            advice.append(f"{package} is not installed; training on a GPU takes it where it is")
    if not gpus:
        advice.append("no GPU: the embedded smollm2-135m trains here in minutes; 1.5B takes hours")
    return advice


def _version(name: str) -> str | None:
    if util.find_spec(name) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def _gpus() -> tuple[list[dict[str, Any]], str]:
    """The GPUs that torch sees, and what is wrong with torch itself, if anything."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it was built for is not there
        return [], f"torch is installed but can't be loaded: {first_line(error)}"
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "name": properties.name,
                "memory_gib": round(properties.total_memory / GIB, 1),
                "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            }
        )
    return gpus, ""


def _logged_in() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
