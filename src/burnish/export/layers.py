"""A causal model's decoder layers: finding them, replaying them, watching their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from burnish.errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor


def decoder_layers(model: Any) -> list[Any]:
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


def linear_names(layer: Any) -> list[str]:
    """The names of the linear layers inside a decoder layer."""
    import torch

    return [name for name, m in layer.named_modules() if isinstance(m, torch.nn.Linear)]


def first_inputs(
    model: Any, layers: list[Any], samples: list[list[int]]
) -> tuple[list[Tensor], list[list[dict[str, Any]]]]:
    """What the first layer is given for each sample, and the other arguments of every layer."""
    import torch

    hidden: list[Tensor] = []
    arguments: list[list[dict[str, Any]]] = []
    second: list[Tensor] = []  # what the second layer is given for the first sample

    def catch(index: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            if index == 0:
                hidden.append(states.clone())
                arguments.append([])
            elif not second:
                second.append(states.clone())
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
    replayed = run_layer(layers[0], hidden[0], arguments[0][0])
    if second and not torch.allclose(replayed, second[0], rtol=1e-3, atol=1e-4):
        raise ExportError(
            type(model).__name__,
            "its layers do not simply feed one another, so they can't be quantized one by one.",
            "Serve the merged model, or quantize it with gptqmodel.",
        )
    return hidden, arguments


def run_layer(layer: Any, hidden: Tensor, arguments: dict[str, Any]) -> Tensor:
    """What a layer makes of hidden states, [1, seq, width]."""
    output = layer(hidden, **arguments)
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


@contextmanager
def hessians(linears: dict[str, Any]) -> Iterator[Callable[[str], Tensor]]:
    """Collects the Hessian of each linear layer while the block runs.

    Layers that are given the very same tensor (q, k and v; gate and up) share one. A layer that is
    given nothing (an expert that no token is sent to) is rounded to the nearest: its Hessian is 1.
    """
    import torch

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

    def value_of(name: str) -> Tensor:
        if name in leader:
            return found[leader[name]].value()
        weight = linears[name].weight
        return torch.eye(weight.shape[1], device=weight.device)

    try:
        yield value_of
    finally:
        for handle in handles:
            handle.remove()
