"""The quantize stage: the merged model -> GPTQ in the AutoGPTQ layout, checked after reloading."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.errors import ExportError, RecipeError
from burnish.models import gptq_layout
from burnish.models.loading import load_quantized, load_whole, set_threads
from burnish.progress import track, warn
from burnish.recipe import ModelSection, QuantizeSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir, write_json
from burnish.scoring import score

if TYPE_CHECKING:
    from torch import Tensor, nn


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
    whole = load_whole(run.merged, dtype=torch.float32)
    whole.requires_grad_(False)
    held_out = _held_out(run)
    before = score(whole, held_out, batch_size=4, what="score merged").loss if held_out else None
    layers = decoder_layers(whole)
    group_size = fitting_group_size(section, layers)
    packed = _quantize_layers(whole, layers, _calibration(section, run), section, group_size)
    with run.fresh("quantize") as out:
        _save(whole, packed, section, group_size, out / "model")
        load_tokenizer(run.tokenizer, model).save_pretrained(str(out / "model"))
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


def decoder_layers(model: Any) -> list[nn.Module]:
    """The decoder layers of a causal model, in order.

    Raises:
        ExportError: the model keeps them in a way that burnish does not know.
    """
    import torch

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    raise ExportError(
        type(model).__name__,
        f"no list of {count} decoder layers was found in this model.",
        "Serve the merged model, or quantize it with gptqmodel.",
    )


def linear_names(layer: nn.Module) -> list[str]:
    """The names of the linear layers inside a decoder layer."""
    import torch

    return [name for name, m in layer.named_modules() if isinstance(m, torch.nn.Linear)]


def fitting_group_size(section: QuantizeSection, layers: list[nn.Module]) -> int:
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


def _calibration(section: QuantizeSection, run: RunDir) -> list[list[int]]:
    from datasets import load_from_disk

    rows = load_from_disk(str(run.split("train")))
    chosen = list(range(len(rows)))
    random.Random(section.seed).shuffle(chosen)
    return list(rows.select(sorted(chosen[: section.num_samples]))["input_ids"])


def _held_out(run: RunDir) -> list[tuple[list[int], list[int]]]:
    from datasets import load_from_disk

    rows = load_from_disk(str(run.split("validation")))
    return list(zip(rows["input_ids"], rows["labels"], strict=True))


def _quantize_layers(
    model: Any,
    layers: list[nn.Module],
    samples: list[list[int]],
    section: QuantizeSection,
    group_size: int,
) -> dict[str, dict[str, Tensor]]:
    """Quantizes layer after layer, each on the outputs of the quantized ones before it."""
    import torch

    prefixes = {id(module): name for name, module in model.named_modules()}
    packed: dict[str, dict[str, Tensor]] = {}
    with torch.no_grad():
        hidden, arguments = _first_inputs(model, layers, samples)
        for index in track(range(len(layers)), "quantize", total=len(layers), unit="layers"):
            layer = layers[index]
            calls = [(h, a[index]) for h, a in zip(hidden, arguments, strict=True)]
            prefix = prefixes[id(layer)]
            for name, tensors in _quantize_layer(layer, calls, section, group_size).items():
                packed[f"{prefix}.{name}"] = tensors
            hidden = [_run_layer(layer, h, a) for h, a in calls]
    return packed


def _first_inputs(
    model: Any, layers: list[nn.Module], samples: list[list[int]]
) -> tuple[list[Tensor], list[list[dict[str, Any]]]]:
    """What the first layer is given for each sample, and the other arguments of every layer."""
    import torch

    hidden: list[Tensor] = []
    arguments: list[list[dict[str, Any]]] = []

    def catch(index: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if index == 0:
                hidden.append((args[0] if args else kwargs["hidden_states"]).clone())
                arguments.append([])
            arguments[-1].append({k: v for k, v in kwargs.items() if k != "hidden_states"})

        return hook

    handles = [
        layer.register_forward_pre_hook(catch(index), with_kwargs=True)
        for index, layer in enumerate(layers)
    ]
    try:
        for ids in samples:
            model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return hidden, arguments


def _run_layer(layer: Any, hidden: Tensor, arguments: dict[str, Any]) -> Tensor:
    output = layer(hidden, **arguments)
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


def _quantize_layer(
    layer: nn.Module,
    calls: list[tuple[Tensor, dict[str, Any]]],
    section: QuantizeSection,
    group_size: int,
) -> dict[str, dict[str, Tensor]]:
    from burnish.export.gptq import quantize_weight

    linears = {name: layer.get_submodule(name) for name in linear_names(layer)}
    with _hessians(linears) as hessians:
        for hidden, arguments in calls:
            _run_layer(layer, hidden, arguments)
    packed = {}
    for name, linear in linears.items():
        result = quantize_weight(
            linear.weight,
            hessians(name),
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


@contextmanager
def _hessians(linears: dict[str, Any]) -> Iterator[Any]:
    """Collects the Hessian of each linear layer while the block runs.

    Layers that are given the very same tensor (q, k and v; gate and up) share one.
    """
    from burnish.export.gptq import Hessian

    leader: dict[str, str] = {}
    found: dict[str, Hessian] = {}
    last: list[Any] = [None, ""]

    def hook_of(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            inputs = args[0]
            if name not in leader:
                leader[name] = last[1] if inputs is last[0] else name
            if leader[name] == name:
                last[:] = [inputs, name]
                if name not in found:
                    found[name] = Hessian(inputs.shape[-1], inputs.device)
                found[name].add(inputs)

        return hook

    handles = [m.register_forward_pre_hook(hook_of(n)) for n, m in linears.items()]
    try:
        yield lambda name: found[leader[name]].value()
    finally:
        for handle in handles:
            handle.remove()


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
