"""Prompt ids -> new ids: batched or streamed, stopped at the stop tokens, seeded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; a temperature of 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def options(self) -> dict[str, Any]:
        """The arguments of `generate`. Nothing is left to the model's generation config, whose
        own temperature or penalty would otherwise slip in.
        """
        options: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "repetition_penalty": self.repetition_penalty,
            "do_sample": self.temperature > 0,
            "top_k": 0 if self.temperature > 0 else None,
            "temperature": self.temperature if self.temperature > 0 else None,
            "top_p": self.top_p if self.temperature > 0 else None,
        }
        return options


class _Stopper:
    """Ends a generation when somebody asks for it, and hands every new id on."""

    def __init__(self, cancelled: threading.Event | None) -> None:
        self._cancelled = cancelled

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        stop = self._cancelled is not None and self._cancelled.is_set()
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

    Prompts are padded on the left to one length and masked.

    Args:
        model: a causal model in evaluation mode.
        prompts: ids from `render_prompt`; with `on_token` only one.
        sampling: how tokens are chosen.
        stop_ids: the tokens that end an answer, from `stop_token_ids`.
        on_token: called with each new id as soon as it is there, the stop token included.
        cancelled: ends the generation at the next token once it is set.
    """
    import torch
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    input_ids = torch.full((len(prompts), longest), stop_ids[0], dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention_mask[row, longest - len(prompt) :] = 1
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    config = GenerationConfig(
        **sampling.options(), eos_token_id=list(stop_ids), pad_token_id=stop_ids[0]
    )
    with torch.inference_mode():
        output = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            generation_config=config,
            streamer=_Sink(on_token) if on_token else None,
            stopping_criteria=[_Stopper(cancelled)] if cancelled else None,
        )
    return [until_stop(row, stop_ids) for row in output[:, longest:].tolist()]


def until_stop(ids: Sequence[int], stop_ids: Sequence[int]) -> list[int]:
    """The ids before the first stop token."""
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids))
    return list(ids[:end])


def decode(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of new ids, control tokens left out and blanks kept as they are."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class TextStream:
    """Turns ids that come one at a time into text, holding back half a character.

    A Chinese character or an emoji can span several tokens; until the last of them is there the
    decoded text ends in U+FFFD.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._ids.append(token)
        text = decode(self._ids, self._tokenizer)
        if text.endswith("\ufffd"):
            return ""
        fresh, self._shown = text[self._shown :], len(text)
        return fresh

    def flush(self) -> str:
        """What is left at the end, an unfinished character included."""
        text = decode(self._ids, self._tokenizer)
        fresh, self._shown = text[self._shown :], len(text)
        return fresh
