"""The AutoGPTQ file layout, version 1: packing integers into it, and reading them back.

For a linear layer with `in` input and `out` output features, groups of g inputs, b bits:

    qweight  int32 [in * b / 32, out]           32 / b consecutive inputs in a word, low bits first
    qzeros   int32 [in / g, out * b / 32]       zero point minus one, packed along the outputs
    scales   float16 [in / g, out]
    g_idx    int32 [in]                         the group of each input

    weight[o, i] = scales[g_idx[i], o] * (q[i, o] - zero[g_idx[i], o])

Source: the AutoGPTQ project's quantized linear layer; read alike by vLLM and gptqmodel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import MissingExtraError, ModelError
from burnish.models.names import read_config

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def pack(integers: Tensor, scales: Tensor, g_idx: Tensor, bits: int) -> dict[str, Tensor]:
    """The four tensors of a symmetrically quantized layer.

    Args:
        integers: [out, in], from -2^(bits-1) to 2^(bits-1) - 1.
        scales: [out, groups].
        g_idx: [in].
        bits: 4 or 8.
    """
    import torch

    zero = 1 << (bits - 1)
    q = (integers.to(torch.int64) + zero).T  # [in, out], 0 .. 2^bits - 1
    zeros = torch.full((scales.shape[1], scales.shape[0]), zero - 1)  # [groups, out]
    return {
        "qweight": _pack_rows(q, bits).contiguous(),
        "qzeros": _pack_rows(zeros.T, bits).T.contiguous(),
        "scales": scales.T.to(torch.float16).contiguous(),
        "g_idx": g_idx.to(torch.int32).contiguous(),
    }


def unpack(tensors: dict[str, Tensor], bits: int, *, zero_offset: int = 1) -> Tensor:
    """The weight [out, in] in float32 that the four tensors stand for."""
    q = _unpack_rows(tensors["qweight"], bits)  # [in, out]
    zeros = _unpack_rows(tensors["qzeros"].T, bits).T + zero_offset  # [groups, out]
    group = tensors["g_idx"].long()
    return ((q - zeros[group]) * tensors["scales"].float()[group]).T.contiguous()


def _pack_rows(values: Tensor, bits: int) -> Tensor:
    """Packs 32 / bits consecutive rows of [n, m] into one row of int32, low bits first."""
    import torch

    per_word = 32 // bits
    words = torch.zeros(values.shape[0] // per_word, values.shape[1], dtype=torch.int64)
    for place in range(per_word):
        words |= values[place::per_word].to(torch.int64) << (bits * place)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def _unpack_rows(words: Tensor, bits: int) -> Tensor:
    import torch

    mask = (1 << bits) - 1
    places = [(words >> (bits * place)) & mask for place in range(32 // bits)]
    return torch.stack(places, dim=1).reshape(-1, words.shape[1])


def load_dequantized(folder: Path, *, dtype: Any) -> PreTrainedModel:
    """A GPTQ checkpoint as a plain model with dequantized weights of the given dtype.

    Raises:
        ModelError: this is no checkpoint in the AutoGPTQ layout.
    """
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtraError("safetensors", "train") from None
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config: dict[str, Any] = dict(read_config(folder))
    settings = config.pop("quantization_config", None) or {}
    if settings.get("quant_method") != "gptq":
        raise ModelError(str(folder), "this model is not quantized by GPTQ.", "")
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
    offset = 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    weights = _dequantize(state, settings["bits"], zero_offset=offset)
    model_config = AutoConfig.for_model(**{k: v for k, v in config.items() if k != "dtype"})
    model = AutoModelForCausalLM.from_config(model_config, dtype=dtype)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    if unexpected or set(missing) - tied:
        names = sorted({*unexpected, *(set(missing) - tied)})
        raise ModelError(str(folder), f"its tensors don't fit its config: {names[:3]}.", "")
    model.tie_weights()
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model


def _dequantize(state: dict[str, Tensor], bits: int, *, zero_offset: int) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if kind == "qweight":
            parts = {k: state[f"{layer}.{k}"] for k in ("qweight", "qzeros", "scales", "g_idx")}
            weights[f"{layer}.weight"] = unpack(parts, bits, zero_offset=zero_offset)
        elif kind not in ("qzeros", "scales", "g_idx"):
            weights[name] = tensor
    return weights
