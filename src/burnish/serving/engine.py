"""One model, one worker thread: requests wait in line, answers come token by token."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from burnish.conversation import Message
from burnish.errors import ServingError
from burnish.generation import Sampling, TextStream, generate
from burnish.rendering import render_prompt, stop_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_WAITING = 64
"""Requests in line beyond which a new one is turned away."""


Piece = str | Exception | None
"""A piece of an answer; None ends it well, an exception ends it badly."""


class PromptTooLong(ServingError):
    """A prompt that leaves no room for an answer."""


class Busy(ServingError):
    """Too many requests are waiting."""


@dataclass
class Job:
    """A request on its way.

    Its pieces go to `deliver`, which the worker calls from its own thread; by default they wait in
    `pieces` for `texts`.
    """

    prompt: list[int]
    sampling: Sampling
    stops: list[str] = field(default_factory=list)
    deliver: Callable[[Piece], None] | None = None
    has_tools: bool = False
    pieces: queue.Queue[Piece] = field(default_factory=queue.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    num_new: int = 0
    finish_reason: str = "stop"

    def put(self, piece: Piece) -> None:
        """Hands a piece to whoever waits for it."""
        (self.deliver or self.pieces.put)(piece)

    def texts(self) -> Iterator[str]:
        """The answer piece by piece, as it is made.

        Raises:
            Exception: what went wrong in the worker.
        """
        while True:
            piece = self.pieces.get()
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Engine:
    """Answers conversations with a model, one after another."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer
        # A fast tokenizer keeps options of the call at hand, so two may not encode at once.
        self._encoding = threading.Lock()
        self._current: Job | None = None
        self._stop_ids = stop_token_ids(tokenizer)
        self.room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=MAX_WAITING)
        self._worker = threading.Thread(target=self._work, name="burnish-engine", daemon=True)
        self._worker.start()

    def submit(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        stops: Sequence[str] = (),
        *,
        tools: Sequence[dict[str, Any]] = (),
        deliver: Callable[[Piece], None] | None = None,
    ) -> Job:
        """Puts a conversation in line; threads may call this at once.

        Raises:
            PromptTooLong: the model has no room for an answer behind this prompt.
            Busy: too many requests are waiting.
            DataError: the chat template refuses these messages.
        """
        prompt = self.prompt_ids(messages, tools)
        if self.room is not None:
            room = self.room - len(prompt)
            if room < 1:
                raise PromptTooLong(
                    "prompt",
                    f"it has {len(prompt)} tokens; this model takes {self.room}, answer included.",
                    "Shorten the conversation.",
                )
            sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))
        job = Job(prompt, sampling, list(stops), deliver, has_tools=bool(tools))
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Busy(
                "server", f"{MAX_WAITING} requests are waiting.", "Try again later."
            ) from None
        return job

    def prompt_ids(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> list[int]:
        """What the model is given for a conversation; threads may call this at once.

        Raises:
            DataError: the chat template refuses these messages.
        """
        with self._encoding:
            return render_prompt(messages, self._tokenizer, tools=tools)

    def close(self) -> None:
        """Ends the worker; the answer at hand stops at its next token."""
        with contextlib.suppress(queue.Empty):
            while job := self._jobs.get_nowait():
                job.put(None)
        if current := self._current:
            current.cancelled.set()
        self._jobs.put(None)
        self._worker.join(timeout=30)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._current = job
            try:
                if not job.cancelled.is_set():
                    self._answer(job)
                job.put(None)
            except Exception as error:  # handed to whoever waits for this job
                job.put(error)
            self._current = None

    def _answer(self, job: Job) -> None:
        # In some families control tokens open a call; a client could not tell it without them.
        stream = TextStream(self._tokenizer, skip_special_tokens=not job.has_tools)
        text = _Held(job, stream)

        def on_token(token: int) -> None:
            if token not in self._stop_ids and not job.cancelled.is_set():
                job.num_new += 1
                text.push(token)

        (ids,) = generate(
            self._model,
            [job.prompt],
            job.sampling,
            stop_ids=self._stop_ids,
            on_token=on_token,
            cancelled=job.cancelled,
        )
        text.flush()
        if len(ids) >= job.sampling.max_new_tokens and not text.stopped:
            job.finish_reason = "length"


class _Held:
    """Passes text on, except what may be the beginning of a stop text."""

    def __init__(self, job: Job, stream: TextStream) -> None:
        self._job = job
        self._stream = stream
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> None:
        """Takes a token, and passes on the text that can't be part of a stop text any more."""
        self._pass_on(self._stream.push(token), last=False)

    def flush(self) -> None:
        """Passes on what is left."""
        if not self.stopped:
            self._pass_on(self._stream.flush(), last=True)

    def _pass_on(self, fresh: str, *, last: bool) -> None:
        self._held += fresh
        ends = [at for stop in self._job.stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            self._job.cancelled.set()
            ready = self._held[: min(ends)]
        else:
            longest = max((len(stop) - 1 for stop in self._job.stops), default=0)
            ready = self._held if last else self._held[: max(0, len(self._held) - longest)]
        self._held = self._held[len(ready) :]
        if ready:
            self._job.put(ready)
