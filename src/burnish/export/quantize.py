"""The quantize stage: the merged model -> GPTQ in the AutoGPTQ layout, checked after reloading."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.errors import ExportError, RecipeError
from burnish.export.layers import (
    decoder_layers,
    first_inputs,
    hessians,
    linear_names,
    run_layer,
)
from burnish.models import gptq_layout
from burnish.models.loading import load_quantized, load_whole, set_threads
from burnish.parity.checks import check_folder, check_rows, check_run
from burnish.progress import track, warn
from burnish.recipe import ModelSection, QuantizeSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir, write_json
from burnish.scoring import score

if TYPE_CHECKING:
    from torch import Tensor


class QuantizeReport(BaseModel):
    """Where the small model lies, and what quantizing cost it."""

    model_config = ConfigDict(frozen=True)

    model: str
    bits: int
    group_size: int
    desc_act: bool
    bytes: int
    merged_loss: float | None = Field(serialization_alias="merged/validation/loss")
    quantized_loss: float | None = Field(serialization_alias="quantized/validation/loss")


def quantize(model: ModelSection, section: QuantizeSection, run: RunDir) -> QuantizeReport:
    """Quantizes the linear layers of the merged model, calibrated on the run's own examples.

    Raises:
        RecipeError: no group size fits the widths of this model.
        ExportError: the saved model does not read back as what was computed.
    """
    import torch

    set_threads()
    tokenizer = load_tokenizer(run.tokenizer, model)
    certificate = check_run(model, run, tokenizer)
    check_folder(certificate, model, run.merged)
    calibration = _calibration(section, run)
    check_rows(certificate, calibration, tokenizer, "calibration")
    whole = load_whole(run.merged, dtype=torch.float32)
    whole.requires_grad_(False)
    held_out = _held_out(run)
    before = score(whole, held_out, batch_size=4, what="score merged").loss if held_out else None
    layers = decoder_layers(whole)
    _check_linears(whole, layers)
    group_size = fitting_group_size(section, layers)
    packed = _quantize_layers(whole, layers, list(calibration["input_ids"]), section, group_size)
    with run.fresh("quantize") as out:
        _save(whole, packed, section, group_size, out / "model")
        tokenizer.save_pretrained(str(out / "model"))
        check_folder(certificate, model, out / "model")
        reloaded = load_quantized(out / "model", dtype=torch.float32)
        _check_reload(whole, reloaded)
        after = (
            score(reloaded, held_out, batch_size=4, what="score quantized").loss
            if held_out
            else None
        )
        size = sum(p.stat().st_size for p in (out / "model").glob("*.safetensors"))
        report = QuantizeReport(
            model=str(run.quantized),
            bits=section.bits,
            group_size=group_size,
            desc_act=section.desc_act,
            bytes=size,
            merged_loss=before,
            quantized_loss=after,
        )
        write_json(out / "gate.json", report.model_dump(by_alias=True, exclude={"model"}))
    return report


def _check_linears(model: Any, layers: list[Any]) -> None:
    if not any(linear_names(layer) for layer in layers):
        raise ExportError(
            type(model).__name__,
            "its decoder layers hold no plain linear layers, so there is nothing to quantize.",
            "Serve the merged model.",
        )


def fitting_group_size(section: QuantizeSection, layers: list[Any]) -> int:
    """The group size of the recipe, or the next smaller one that divides every layer's width.

    Raises:
        RecipeError: none does, or a layer can't be packed into whole words.
    """
    linears = [layer.get_submodule(name) for layer in layers for name in linear_names(layer)]
    widths = sorted({int(m.in_features) for m in linears})
    heights = sorted({int(m.out_features) for m in linears})
    per_word = 32 // section.bits
    odd = [size for size in widths + heights if size % per_word]
    if odd:
        raise RecipeError(
            "quantize.bits",
            f"a layer of this model has width {odd[0]}, which is no multiple of {per_word}.",
            "Serve the merged model instead.",
        )
    if section.group_size == -1:
        return -1
    size = int(section.group_size)
    while size > 8 and any(width % size for width in widths):
        size //= 2
    if any(width % size for width in widths):
        raise RecipeError(
            "quantize.group_size", f"no group size divides the widths {widths}.", "Set it to -1."
        )
    if size != section.group_size:
        warn(
            f"group_size {section.group_size} does not divide this model's widths "
            f"({', '.join(map(str, widths))}); {size} is used"
        )
    return size


def _calibration(section: QuantizeSection, run: RunDir) -> Any:
    """The rows of the train split to calibrate on."""
    from datasets import load_from_disk

    rows = load_from_disk(str(run.split("train")))
    chosen = list(range(len(rows)))
    random.Random(section.seed).shuffle(chosen)
    return rows.select(sorted(chosen[: section.num_samples]))


def _held_out(run: RunDir) -> list[tuple[list[int], list[int]]]:
    from datasets import load_from_disk

    rows = load_from_disk(str(run.split("validation")))
    return list(zip(rows["input_ids"], rows["labels"], strict=True))


def _quantize_layers(
    model: Any,
    layers: list[Any],
    samples: list[list[int]],
    section: QuantizeSection,
    group_size: int,
) -> dict[str, dict[str, Tensor]]:
    """Quantizes layer after layer, each on the outputs of the quantized ones before it."""
    import torch

    prefixes = {id(module): name for name, module in model.named_modules()}
    packed: dict[str, dict[str, Tensor]] = {}
    with torch.no_grad():
        hidden, arguments = first_inputs(model, layers, samples)
        for index in track(range(len(layers)), "quantize", total=len(layers), unit="layers"):
            layer = layers[index]
            calls = [(h, a[index]) for h, a in zip(hidden, arguments, strict=True)]
            prefix = prefixes[id(layer)]
            for name, tensors in _quantize_layer(layer, calls, section, group_size).items():
                packed[f"{prefix}.{name}"] = tensors
            hidden = [run_layer(layer, h, a) for h, a in calls]
    return packed


def _quantize_layer(
    layer: Any,
    calls: list[tuple[Tensor, dict[str, Any]]],
    section: QuantizeSection,
    group_size: int,
) -> dict[str, dict[str, Tensor]]:
    from burnish.export.gptq import quantize_weight

    linears = {name: layer.get_submodule(name) for name in linear_names(layer)}
    with hessians(linears) as hessian_of:
        for hidden, arguments in calls:
            run_layer(layer, hidden, arguments)
    packed = {}
    for name, linear in linears.items():
        result = quantize_weight(
            linear.weight,
            hessian_of(name),
            bits=section.bits,
            group_size=linear.in_features if group_size == -1 else group_size,
            desc_act=section.desc_act,
            damp_percent=section.damp_percent,
        )
        linear.weight.copy_(result.dequantized())
        packed[name] = gptq_layout.pack(
            result.integers.cpu(), result.scales.cpu(), result.g_idx.cpu(), section.bits
        )
    return packed


def _save(
    model: Any,
    packed: dict[str, dict[str, Tensor]],
    section: QuantizeSection,
    group_size: int,
    out: Path,
) -> None:
    import torch
    from huggingface_hub import save_torch_state_dict

    out.mkdir(parents=True)
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
        if name.removesuffix(".weight") not in packed and name not in tied
    }
    for name, tensors in packed.items():
        state |= {f"{name}.{kind}": tensor for kind, tensor in tensors.items()}
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    save_torch_state_dict(contiguous, str(out), metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["dtype"] = str(torch.float16).removeprefix("torch.")
    config["architectures"] = [type(model).__name__]
    config["quantization_config"] = {
        "quant_method": "gptq",
        "bits": section.bits,
        "group_size": group_size,
        "desc_act": section.desc_act,
        "sym": True,
        "lm_head": False,
        "checkpoint_format": "gptq",
        "true_sequential": False,
        "damp_percent": section.damp_percent,
    }
    write_json(out / "config.json", config)
    write_json(out / "quantize_config.json", config["quantization_config"])
    model.generation_config.save_pretrained(str(out))


def _check_reload(computed: Any, reloaded: Any) -> None:
    """Checks that each quantized layer reads back to the very weights that were computed."""
    import torch

    for index, layer in enumerate(decoder_layers(computed)):
        for name in linear_names(layer):
            weight = layer.get_submodule(name).weight
            twin = decoder_layers(reloaded)[index].get_submodule(name).weight
            if not torch.allclose(weight, twin, rtol=0, atol=1e-6):
                raise ExportError(
                    f"layer {index}, {name}",
                    "the saved weights do not read back as computed.",
                    "Check the disk, and run quantize again.",
                )
