"""The HTTP server: /generate, /v1/chat/completions, /tokenize, /v1/models and /health."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from burnish.conversation import Message
from burnish.errors import BurnishError, ServingError
from burnish.generation import Sampling
from burnish.recipe import ServeSection
from burnish.serving.body_limit import BodyLimit
from burnish.serving.engine import Busy, Engine, Job, Piece
from burnish.serving.protocol import (
    MAX_BODY_BYTES,
    ChatRequest,
    GenerateRequest,
    TokenizeRequest,
    usage,
)

logger = logging.getLogger("uvicorn.error")
"""The server's log, where the trace of a failed answer goes: a client gets no inner workings."""


class AnswerFailed(ServingError):
    """The worker met an error that is not the client's."""


def create_app(engine: Engine, section: ServeSection, model_name: str) -> FastAPI:
    """The server's application around an engine.

    Args:
        engine: answers conversations.
        section: defaults for what requests leave out.
        model_name: what /v1/models lists.
    """
    app = FastAPI(title="burnish")
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    _add_error_handlers(app)
    card = {
        "id": model_name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "burnish",
    }

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": model_name}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name != model_name:
            raise HTTPException(404, f"there is no model {name!r} here; this is {model_name!r}")
        return card

    @app.post("/generate", response_model=None)
    async def generate(body: GenerateRequest, request: Request) -> Any:
        asked = body.messages(section.system_prompt)
        answer = await _submit(engine, asked, body.sampling(section))
        return {"output": await _whole_answer(answer, request)}

    @app.post("/tokenize", response_model=None)
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        asked = body.conversation(section.system_prompt)
        ids = await asyncio.to_thread(engine.prompt_ids, asked, body.shown_tools())
        return {"count": len(ids), "max_model_len": engine.room, "tokens": ids}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Any:
        asked = body.conversation(section.system_prompt)
        answer = await _submit(
            engine, asked, body.sampling(section), body.stops(), body.shown_tools()
        )
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model_name,
        }
        if body.stream:
            counted = body.stream_options is not None and body.stream_options.include_usage
            events = _events(answer, head, counted=counted)
            return StreamingResponse(events, media_type="text/event-stream")
        text = await _whole_answer(answer, request)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": answer.job.finish_reason,
        }
        return {
            **head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": answer.usage(),
        }

    return app


@dataclass(frozen=True, slots=True)
class _Answer:
    """A job whose pieces come into the event loop, so that none of its threads has to wait."""

    job: Job
    pieces: asyncio.Queue[Piece]

    async def texts(self) -> AsyncIterator[str]:
        """The answer piece by piece, as it is made.

        Raises:
            AnswerFailed: the worker met an error, which is in the log.
        """
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                logger.error("an answer failed", exc_info=piece)
                raise AnswerFailed("server", "the answer failed.", "The server's log says why.")
            yield piece

    def usage(self) -> dict[str, int]:
        """How many tokens went in and came out."""
        return usage(len(self.job.prompt), self.job.num_new)


async def _submit(
    engine: Engine,
    messages: Sequence[Message],
    sampling: Sampling,
    stops: Sequence[str] = (),
    tools: Sequence[dict[str, Any]] = (),
) -> _Answer:
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[Piece] = asyncio.Queue()

    def deliver(piece: Piece) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

    job = await asyncio.to_thread(
        engine.submit, messages, sampling, stops, tools=tools, deliver=deliver
    )
    return _Answer(job, pieces)


async def _whole_answer(answer: _Answer, request: Request) -> str:
    """The whole answer; the work stops when the client has left."""
    watcher = asyncio.create_task(_cancel_when_gone(answer.job, request))
    try:
        return "".join([text async for text in answer.texts()])
    finally:
        watcher.cancel()
        answer.job.cancelled.set()


async def _cancel_when_gone(job: Job, request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
    job.cancelled.set()


async def _events(answer: _Answer, head: dict[str, Any], *, counted: bool) -> AsyncIterator[str]:
    """The answer as server-sent events in OpenAI's form."""

    def event(delta: dict[str, str] | None, finish: str | None = None) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        body = {**head, "object": "chat.completion.chunk", "choices": choices}
        if counted:
            body["usage"] = answer.usage() if delta is None else None
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

    try:
        yield event({"role": "assistant", "content": ""})
        try:
            async for text in answer.texts():
                yield event({"content": text})
        except AnswerFailed as error:  # the status line is gone already: say so in the stream
            yield f"data: {json.dumps(_problem(str(error), 'server_error'))}\n\n"
            return
        yield event({}, answer.job.finish_reason)
        if counted:
            yield event(None)
        yield "data: [DONE]\n\n"
    finally:
        answer.job.cancelled.set()


def _problem(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # What was sent is not echoed: it may hold what no JSON can (NaN, half a character).
        faults = [
            f"{'.'.join(str(step) for step in fault['loc'][1:])}: {fault['msg']}"
            for fault in error.errors()
        ]
        return JSONResponse(_problem("; ".join(faults), "invalid_request_error"), 400)

    @app.exception_handler(HTTPException)
    async def unusable(request: Request, error: HTTPException) -> JSONResponse:
        body = _problem(str(error.detail), "invalid_request_error")
        return JSONResponse(body, error.status_code, headers=error.headers)

    @app.exception_handler(AnswerFailed)
    async def broken(request: Request, error: AnswerFailed) -> JSONResponse:
        return JSONResponse(_problem(str(error), "server_error"), 500)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        body = _problem(str(error), "overloaded_error")
        return JSONResponse(body, 503, headers={"Retry-After": "5"})

    @app.exception_handler(BurnishError)
    async def refused(request: Request, error: BurnishError) -> JSONResponse:
        return JSONResponse(_problem(str(error), "invalid_request_error"), 400)
