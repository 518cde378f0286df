"""Prompt ids -> new ids: batched or streamed, stopped at the stop tokens, seeded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from burnish.models.memory import in_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


COLDEST = 1e-4
"""Temperatures below this are greedy: dividing by them would overflow."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; a temperature of 0 is greedy.

    A seed of None draws from the process's own random numbers; any whole number is a seed.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def options(self) -> dict[str, Any]:
        """The arguments of `generate`."""
        common = {
            "max_new_tokens": self.max_new_tokens,
            "repetition_penalty": self.repetition_penalty,
        }
        if self.temperature < COLDEST:
            return {**common, "do_sample": False}
        drawn = {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        return {**common, "do_sample": True, **drawn}


class _Stopper:
    """Ends a generation when somebody asks for it."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        stop = self._cancelled.is_set()
        return torch.full((input_ids.shape[0],), stop, dtype=torch.bool, device=input_ids.device)


class _Sink:
    """A streamer (in transformers' sense) that passes new ids to a function."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Takes the prompt first, then one id at a time."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self._on_token(token)

    def end(self) -> None:
        """Nothing is left to do."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    on_token: Callable[[int], None] | None = None,
    cancelled: threading.Event | None = None,
) -> list[list[int]]:
    """The new ids of each prompt, without the stop token that ended them.

    Where memory runs out, the prompts go again in smaller batches. Greedy answers stay the same;
    drawn ones depend on what is drawn beside them.

    Args:
        model: a causal model in evaluation mode.
        prompts: ids from `render_prompt`; with `on_token` only one.
        sampling: how tokens are chosen.
        stop_ids: the tokens that end an answer, from `stop_token_ids`.
        on_token: called with each new id as soon as it is there, the stop token included.
        cancelled: ends the generation at the next token once it is set.

    Raises:
        OutOfMemoryError: a single prompt and its answer do not fit.
    """
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(
        **sampling.options(), eos_token_id=list(stop_ids), pad_token_id=stop_ids[0]
    )
    options = {
        "generation_config": config,
        "streamer": _Sink(on_token) if on_token else None,
        "stopping_criteria": [_Stopper(cancelled)] if cancelled else None,
    }
    # A model that learns may keep tensors that are made here, such as rotary tables that grow, and
    # a later backward pass could not use those of inference mode.
    learns = any(p.requires_grad for p in model.parameters())
    mode = torch.no_grad() if learns else torch.inference_mode()
    device = next(model.parameters()).device
    with mode, _settings_alone(model), _seeded(sampling.seed, device):
        answers = in_batches(
            prompts,
            partial(_new_ids, model, options=options),
            size=len(prompts),
            what="generate",
            name=lambda prompt: f"a prompt of {len(prompt):,} tokens",
            remedy="Shorten it, ask for fewer new tokens, or set model.load_in_4bit: true.",
        )
        return [until_stop(ids, stop_ids) for ids in answers]


def _new_ids(
    model: Any, prompts: Sequence[Sequence[int]], *, options: dict[str, Any]
) -> list[list[int]]:
    """What `generate` adds to each prompt, all of one length; prompts are padded on the left."""
    import torch

    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    pad = options["generation_config"].pad_token_id
    input_ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention_mask[row, longest - len(prompt) :] = 1
    output = model.generate(
        input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), **options
    )
    new: list[list[int]] = output[:, longest:].tolist()
    return new


@contextlib.contextmanager
def _settings_alone(model: Any) -> Iterator[None]:
    """Keeps the model's generation config out: `generate` takes from it what is not set.

    Its penalty, bad words or least length would otherwise slip in.
    """
    from transformers import GenerationConfig

    # PEFT hands the outer model's config on to the inner one, so both are put back.
    models = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    kept = [each.generation_config for each in models]
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for each, config in zip(models, kept, strict=True):
            each.generation_config = config


@contextlib.contextmanager
def _seeded(seed: int | None, device: Any) -> Iterator[None]:
    """Draws from a seed and leaves the process's random numbers as they were."""
    import torch

    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed % 2**63)
        yield


def until_stop(ids: Sequence[int], stop_ids: Sequence[int]) -> list[int]:
    """The ids before the first stop token."""
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids))
    return list(ids[:end])


def decode(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, *, skip_special_tokens: bool = True
) -> str:
    """The text of new ids, control tokens left out and blanks kept as they are."""
    return str(
        tokenizer.decode(
            ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
    )


class TextStream:
    """Turns ids that come one at a time into text, holding back half a character.

    A Chinese character or an emoji can span several tokens; until the last of them is there the
    decoded text ends in U+FFFD. Only the last tokens are decoded anew: those whose text is shown
    stand before the new ones once, because some tokenizers drop the blank of a first token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, skip_special_tokens: bool = True
    ) -> None:
        self._decode = partial(decode, tokenizer=tokenizer, skip_special_tokens=skip_special_tokens)
        self._before: list[int] = []
        self._new: list[int] = []

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._new.append(token)
        fresh = self._fresh()
        if not fresh or fresh.endswith("\ufffd"):
            return ""
        self._before, self._new = self._new, []
        return fresh

    def flush(self) -> str:
        """What is left at the end, an unfinished character included."""
        fresh = self._fresh()
        self._before, self._new = [*self._before, *self._new], []
        return fresh

    def _fresh(self) -> str:
        shown = self._decode(self._before)
        return self._decode([*self._before, *self._new])[len(shown) :]
