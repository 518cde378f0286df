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

from burnish.errors import MissingExtraError, ModelError, first_line
from burnish.models.lora import lora_config
from burnish.recipe import LoraSettings

if TYPE_CHECKING:
    import torch

_EXPERTS = ("num_experts_per_tok", "moe_topk", "num_experts_per_token")
"""What configurations call the number of experts that a token passes through."""

_OF_VALUES = (ValueError, TypeError, AttributeError, ArithmeticError)
"""What transformers raises where a value of a configuration is of the wrong kind or size."""


def read_shape(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The configuration (PreTrainedConfig) in a folder; weights and tokenizer are not needed.

    Raises:
        ModelError: transformers does not know the architecture, or config.json is broken.
    """
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig
    except ImportError:
        raise MissingExtraError("transformers", "train") from None
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        problem = _wrong_number(config.get_text_config())
    except (OSError, KeyError, StrictDataclassError, *_OF_VALUES) as error:
        # A validator says in its first line which field it is, and in the next what is wrong there.
        told = " ".join(str(error).split())
        problem = told if isinstance(error, StrictDataclassError) else first_line(error)
    if problem:
        raise ModelError(
            str(folder),
            f"its config.json can't be used: {problem.rstrip('.')}.",
            "Check the file; a new architecture may need a newer transformers.",
        )
    return config


def _wrong_number(config: Any) -> str | None:
    """Which of the numbers that a shape is made of can't be."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    for name in names:
        number = getattr(config, name, None)
        if isinstance(number, int) and number < 1:
            return f"{name} is {number}"
    chosen, experts = _num_chosen(config), num_experts(config)
    if chosen and experts and chosen > experts:
        return f"a token goes through {chosen} experts of {experts}"
    return None


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
    except (RuntimeError, *_OF_VALUES) as error:
        raise ModelError(
            config.model_type,
            f"no causal language model can be built: {first_line(error)}.",
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
    depth, text.num_hidden_layers = text.num_hidden_layers, num_layers
    for name, value in list(vars(text).items()):
        if "layer" in name and isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:num_layers])
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
    experts = sum(int(p.numel()) for name, p in model.named_parameters() if ".experts." in name)
    resting = experts * (1 - share_of_tokens(model.config.get_text_config()))
    return num_parameters(model) - math.ceil(resting)


def share_of_tokens(config: Any) -> float:
    """The share of the tokens that an expert sees, on average; 1 where there are none."""
    chosen, total = _num_chosen(config), num_experts(config)
    return chosen / total if chosen and total else 1.0


def _num_chosen(config: Any) -> int:
    return next((int(n) for name in _EXPERTS if (n := getattr(config, name, None))), 0)


def num_experts(config: Any) -> int:
    """Experts of a layer; 0 where the model is no mixture of experts."""
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    return next((int(n) for name in names if (n := getattr(config, name, None))), 0)
