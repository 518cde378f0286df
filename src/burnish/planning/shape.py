"""A model's shape, from config.json alone: built on the meta device, where weights take no memory.

So every architecture of transformers is counted as its own code builds it: tied heads once,
grouped-query attention, biases, mixtures of experts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import MissingExtraError, ModelError
from burnish.models.lora import lora_config
from burnish.recipe import LoraSettings

if TYPE_CHECKING:
    import torch

_EXPERTS = ("num_experts_per_tok", "moe_topk", "num_experts_per_token")
"""What configurations call the number of experts that a token passes through."""


def read_shape(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The configuration (PreTrainedConfig) in a folder; weights and tokenizer are not needed.

    Raises:
        ModelError: transformers does not know the architecture, or config.json is broken.
    """
    try:
        from transformers import AutoConfig
    except ImportError:
        raise MissingExtraError("transformers", "train") from None
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            str(folder),
            f"its config.json can't be used: {str(error).strip().splitlines()[0]}",
            "Check the file; a new architecture may need a newer transformers.",
        ) from None


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """The model of a configuration on the meta device.

    Raises:
        ModelError: this architecture has no causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            # A copy, because transformers writes the type into the configuration it is given.
            return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
    except ValueError as error:
        raise ModelError(
            config.model_type,
            f"no causal language model can be built: {str(error).strip().splitlines()[0]}",
            "Choose a model whose architecture ends in ForCausalLM.",
        ) from None


def with_adapter(model: Any, settings: LoraSettings) -> Any:
    """The model with a LoRA adapter (a PeftModel), on the same device."""
    import torch
    from peft import get_peft_model

    with torch.device("meta"):
        return get_peft_model(model, lora_config(settings, initialize=False))


def shallow(config: Any, num_layers: int) -> Any:
    """The configuration with only the first so many layers."""
    shorter = copy.deepcopy(config)
    text = shorter.get_text_config()
    text.num_hidden_layers = num_layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:num_layers]
    return shorter


def quantizable(model: Any) -> Iterator[tuple[str, Any]]:
    """The linear layers that a quantized base holds in 8 or 4 bits, by name: all but the head."""
    import torch

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            yield name, module


def num_parameters(model: Any) -> int:
    """Weights of a model, tied ones once."""
    return int(sum(p.numel() for p in model.parameters()))


def num_active(model: Any) -> int:
    """Weights that take part in one token's forward pass; fewer than all in a mixture of experts.

    Approximate there: a token is counted with so many experts as the configuration says.
    """
    config = model.config.get_text_config()
    chosen: int | None = next((n for name in _EXPERTS if (n := getattr(config, name, None))), None)
    experts = [p for name, p in model.named_parameters() if ".experts." in name]
    if not chosen or not experts:
        return num_parameters(model)
    total = max(num_experts(config), 1)
    resting = sum(p.numel() for p in experts) * (1 - chosen / total)
    return num_parameters(model) - math.ceil(float(resting))


def num_experts(config: Any) -> int:
    """Experts of a layer; 0 where the model is no mixture of experts."""
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    return next((int(n) for name in names if (n := getattr(config, name, None))), 0)
