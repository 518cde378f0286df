"""Answers of the adapter in training: a few validation prompts, answered at each evaluation.

Greedy, one prompt at a time, within so many tokens and so much time. Training goes on as if nothing
had been: no random number is drawn, no setting of the model stays changed, and no tensor is made
that a later backward pass could not use.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback

from burnish.conversation import Conversation
from burnish.errors import OutOfMemoryError
from burnish.generation import Sampling, decode, generate
from burnish.progress import say, warn
from burnish.recipe import ModelSection, TrainSection
from burnish.rendering import load_tokenizer, render_prompt, stop_token_ids
from burnish.run_dir import RunDir
from burnish.training.journal import SAMPLES_NAME, append_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 60.0
"""The answers of one evaluation may take so long; what is not there by then is left out."""

SHOWN_CHARS = 100
"""So much of an answer is shown on the terminal."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question of the validation rows.

    Attributes:
        origin: `file:line` of its row.
        question: what is asked last.
        reference: the answer that the row has.
        ids: the prompt as a server would render it.
    """

    origin: str
    question: str
    reference: str
    ids: tuple[int, ...]


def samples_of(model: ModelSection, section: TrainSection, run: RunDir) -> list[TrainerCallback]:
    """The callback that answers a run's prompts, if the recipe asks for samples."""
    from datasets import load_from_disk

    if not section.samples:
        return []
    tokenizer = load_tokenizer(run.tokenizer, model)
    rows = load_from_disk(str(run.split("validation")))["conversation"]
    prompts = choose_prompts(rows, tokenizer, section.samples)
    path = run.folder("train") / SAMPLES_NAME
    return [Samples(path, prompts, tokenizer, max_new_tokens=section.samples_max_new_tokens)]


def choose_prompts(
    conversations: Sequence[str], tokenizer: PreTrainedTokenizerBase, count: int
) -> list[Prompt]:
    """The first prompts of prepared rows (conversations as JSON); passages of text have none."""
    prompts: list[Prompt] = []
    for text in conversations:
        if len(prompts) == count:
            break
        conversation = Conversation.from_json(text)
        question = conversation.question
        if question:
            ids = render_prompt(question, tokenizer, tools=conversation.tools)
            prompts.append(
                Prompt(conversation.origin, question[-1].content, conversation.answer, tuple(ids))
            )
    return prompts


class Samples(TrainerCallback):  # type: ignore[misc]
    """Answers the prompts at each evaluation, and writes samples.jsonl.

    Args:
        path: samples.jsonl.
        prompts: what is asked.
        tokenizer: of the run.
        max_new_tokens: longest answer.
        seconds: longest time for all answers of an evaluation.
    """

    def __init__(
        self,
        path: Path,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        seconds: float = SECONDS,
    ) -> None:
        self._path = path
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens
        self._seconds = seconds

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Answers, but for a model in pieces on several ranks: it can't answer on one."""
        if _is_sharded(model):
            return
        try:
            with _as_it_was(model):
                lines = list(self._answers(model, state.global_step))
        except OutOfMemoryError:
            warn(f"step {state.global_step}: memory ran out over the samples; they are left out")
            return
        for line in lines:
            append_line(self._path, line)
            shown = " ".join(line["answer"].split())
            more = "…" if len(shown) > SHOWN_CHARS else ""
            say(f"sample at step {line['step']}, {line['origin']}: {shown[:SHOWN_CHARS]}{more}")

    def _answers(self, model: Any, step: int) -> Iterator[dict[str, Any]]:
        stop_ids = stop_token_ids(self._tokenizer)
        late = threading.Event()
        timer = threading.Timer(self._seconds, late.set)
        timer.daemon = True
        timer.start()
        try:
            for prompt in self._prompts:
                if late.is_set():
                    break
                started = time.perf_counter()
                (ids,) = generate(
                    model,
                    [prompt.ids],
                    Sampling(max_new_tokens=self._max_new_tokens),
                    stop_ids=stop_ids,
                    cancelled=late,
                )
                yield {
                    "step": step,
                    "origin": prompt.origin,
                    "prompt": prompt.question,
                    "answer": decode(ids, self._tokenizer),
                    "reference": prompt.reference,
                    "num_tokens": len(ids),
                    "ended": len(ids) < self._max_new_tokens and not late.is_set(),
                    "seconds": round(time.perf_counter() - started, 2),
                }
        finally:
            timer.cancel()


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """The model in evaluation mode; afterwards random numbers go on as if nothing had been."""
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _is_sharded(model: Any) -> bool:
    return any(hasattr(p, "full_tensor") for p in model.parameters())
