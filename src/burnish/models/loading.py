"""Loads a base (whole, 8 or 4 bits), an adapter on it, a merged and a quantized model."""

from __future__ import annotations

import logging
import math
import os
import time
import timeit
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import MissingExtraError, ModelError, first_line
from burnish.machine import free_cores, usable_cores
from burnish.models import gptq_layout
from burnish.models.attention import FLASH, check_attention, prefer_flash
from burnish.models.names import find_model, read_config
from burnish.models.new_rows import add_rows
from burnish.models.prequantized import must_dequantize
from burnish.progress import say, warn
from burnish.recipe import ModelSection
from burnish.run_dir import RunDir

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


BASE_NOTE = "base.json"
"""Stands beside an adapter that belongs to the quantized weights of its base."""


def pick_device() -> torch.device:
    """The device to compute on: CUDA, then Apple's, then the CPU."""
    _import_torch()
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def pick_dtype(bf16: str | bool = "auto", *, training: bool = False) -> torch.dtype:
    """bfloat16 where it is asked for, or where the device is good at it; float32 elsewhere.

    A CPU that is good at it trains in it; what is measured and served there stays in float32.
    """
    _import_torch()
    import torch

    if bf16 == "auto":
        if torch.cuda.is_available():
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            bf16 = training and pick_device().type == "cpu" and cpu_gain_of_bf16() >= 1.5
    return torch.bfloat16 if bf16 else torch.float32


def trains_in_bf16(bf16: str | bool) -> bool:
    """What `train.bf16` comes to on this machine; a probe may say something else another time."""
    return dtype_name(pick_dtype(bf16, training=True)) == "bfloat16"


def dtype_name(dtype: torch.dtype) -> str:
    """A type as people write it, such as float32."""
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=1)
def cpu_gain_of_bf16() -> float:
    """How many times faster this CPU multiplies matrices in bfloat16 than in float32.

    The shortest of a few products of [256, 512] and [512, 1024] in each, in turns: about 50 ms in
    all. One thread's processor time is taken, so that other work on the machine changes nothing.
    """
    _import_torch()
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = {torch.float32: math.inf, torch.bfloat16: math.inf}
        for _ in range(8):
            for dtype, shortest in seconds.items():
                x, w = torch.ones(256, 512, dtype=dtype), torch.ones(512, 1024, dtype=dtype)
                taken = timeit.timeit(lambda: x @ w, timer=time.thread_time, number=1)  # noqa: B023
                seconds[dtype] = min(shortest, taken)
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def load_base(
    folder: Path,
    section: ModelSection,
    *,
    dtype: torch.dtype,
    quantized: bool = True,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """The base model in evaluation mode, in 8 or 4 bits where the recipe says so.

    Args:
        folder: where the model lies, from `find_model`.
        section: the recipe's model section.
        dtype: type of the weights, or what quantized weights compute in.
        quantized: False loads it whole whatever the recipe says.
        device: where it lies; by default the one to compute on.

    Raises:
        ModelError: the weights can't be loaded.
        RecipeError: the attention that the recipe names can't run here.
    """
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": section.trust_remote_code}
    if not section.allow_pickle:
        options["use_safetensors"] = True
    attention = section.attn_implementation
    if attention == FLASH and not quantized:
        attention = "auto"  # what merges computes in float32, which flash-attn does not
    if attention != "auto":
        check_attention(attention, pick_device(), dtype)
        options["attn_implementation"] = attention
    width = quantized and (section.load_in_8bit or section.load_in_4bit)
    if width:
        options["quantization_config"] = _bits_and_bytes(section, dtype)
        options["device_map"] = {"": str(pick_device())}
    if must_dequantize(folder, section, whole=not quantized):
        model = gptq_layout.load_dequantized(folder, dtype=dtype)
    else:
        model = _load(folder, **options)
    add_rows(model, folder, section)
    if width:
        _keep_gradients_on_cpu(model)
    else:
        model.to(device or pick_device())
    if attention == "auto":
        prefer_flash(model)
    return model.eval()


def load_adapter(base: PreTrainedModel, folder: Path) -> Any:
    """The base with a trained adapter on it (a PeftModel in evaluation mode)."""
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtraError("peft", "train") from None
    return PeftModel.from_pretrained(base, str(folder)).eval()


def load_whole(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """A merged model, as saved by the merge stage, in evaluation mode."""
    return _load(folder, dtype=dtype, use_safetensors=True).to(pick_device()).eval()


def load_quantized(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """A GPTQ model, dequantized on loading into plain linear layers, in evaluation mode.

    This needs no kernel and runs anywhere; it saves disk, not memory. On a GPU, vLLM or
    gptqmodel run the same files from their 4 bits.
    """
    return gptq_layout.load_dequantized(folder, dtype=dtype).to(pick_device()).eval()


def load_artifact(artifact: str, section: ModelSection, run: RunDir) -> PreTrainedModel:
    """The base, the adapter on it, the merged or the quantized model of a run."""
    dtype = pick_dtype()
    if artifact == "quantized":
        return load_quantized(run.quantized, dtype=dtype)
    if artifact == "merged":
        return load_whole(run.merged, dtype=dtype)
    if artifact == "adapter" and run.trained == run.trained_model:
        return load_whole(run.trained_model, dtype=dtype)
    base = load_base(find_model(section), section, dtype=dtype)
    return base if artifact == "base" else load_adapter(base, run.adapter)


def load_tuned(base: PreTrainedModel, run: RunDir) -> Any:
    """The trained model of a run in evaluation mode: its adapter on a base, or a model of its own.

    Args:
        base: the run's base, which then bears the adapter.
        run: the run.
    """
    if run.trained == run.trained_model:
        return load_whole(run.trained_model, dtype=base.dtype)
    return load_adapter(base, run.adapter)


def load_unmerged(folder: Path, section: ModelSection, run: RunDir) -> Any:
    """The trained model of a run in float32, to merge: on its base as it was before quantization.

    An adapter that LoftQ started belongs to the quantized weights, so it gets these, dequantized.

    Args:
        folder: where the base lies, from `find_model`.
        section: the recipe's model section.
        run: the run.
    """
    _import_torch()
    import torch

    if run.trained == run.trained_model:
        return load_whole(run.trained_model, dtype=torch.float32)
    own = (run.adapter / BASE_NOTE).is_file()
    base = load_base(folder, section, dtype=torch.float32, quantized=own)
    if own:
        base = base.dequantize(dtype=torch.float32)
    return load_adapter(base, run.adapter)


def own_dtype(folder: Path) -> torch.dtype:
    """The type of a model's weights on disk, by its config.

    Raises:
        ModelError: the config names something else.
    """
    _import_torch()
    import torch

    config = read_config(folder)
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(
            str(folder / "config.json"),
            f"dtype is {name!r}, which is no type of numbers.",
            "Put the type of the weights there, such as bfloat16.",
        )
    return dtype


def check_causal(folder: Path, *, trust_remote_code: bool) -> None:
    """Refuses a model that is made for something else than to go on with a text.

    Raises:
        ModelError: its config names other architectures; code of its own may mean anything.
    """
    architectures = read_config(folder).get("architectures") or []
    if not any("CausalLM" in name or "LMHead" in name for name in architectures):  # type: ignore
        if architectures and not trust_remote_code:
            raise ModelError(
                str(folder),
                f"this is no causal language model: its architecture is {architectures}.",
                "Choose a model whose architecture ends in ForCausalLM.",
            )


def _load(folder: Path, **options: Any) -> PreTrainedModel:
    _import_torch()
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # its bars for loading and saving say nothing that burnish doesn't

    check_causal(folder, trust_remote_code=bool(options.get("trust_remote_code")))
    try:
        return AutoModelForCausalLM.from_pretrained(str(folder), **options)
    except ImportError as error:
        raise ModelError(str(folder), f"{first_line(error)}.", "") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if "out of memory" in str(error):
            raise
        raise ModelError(
            str(folder),
            f"its weights can't be loaded: {first_line(error)}.",
            "Check that the download is whole; for a model with its own code see "
            "model.trust_remote_code.",
        ) from None


def _bits_and_bytes(section: ModelSection, dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtraError("bitsandbytes", "bnb") from None
    from transformers import BitsAndBytesConfig

    if pick_device().type == "cpu":
        say("a quantized base on a CPU saves memory, not time")
    if section.load_in_8bit:
        # It would say at every layer of every pass that products are computed in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _keep_gradients_on_cpu(model: PreTrainedModel) -> None:
    """Keeps bitsandbytes from repacking 4-bit weights for a CPU kernel that has no backward pass.

    On processors with avx512_bf16 the first forward in evaluation mode would do so, and training
    would then go on with gradients of exactly zero, silently.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "train") from None
    return torch


def set_threads() -> int:
    """Lets torch use the cores that are free, or as many as OMP_NUM_THREADS says; how many."""
    torch = _import_torch()
    usable = usable_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is legal too
    if asked.isdecimal() and int(asked):
        wanted = int(asked)
        if wanted > usable:
            warn(f"OMP_NUM_THREADS is {wanted}, more than the {usable} cores of this process")
    else:
        wanted = free_cores()
        if wanted < usable and wanted != torch.get_num_threads():  # said once
            warn(
                f"other work keeps {usable - wanted} of {usable} cores busy: computing on {wanted} "
                f"(OMP_NUM_THREADS={usable} takes all)"
            )
    torch.set_num_threads(wanted)
    return wanted
