"""The HTTP server: /generate, /v1/chat/completions, /v1/models and /health."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from burnish.errors import BurnishError
from burnish.recipe import ServeSection
from burnish.serving.engine import Busy, Engine, Job
from burnish.serving.protocol import MAX_BODY_BYTES, ChatRequest, GenerateRequest, usage


def create_app(engine: Engine, section: ServeSection, model_name: str) -> FastAPI:
    """The server's application around an engine.

    Args:
        engine: answers conversations.
        section: defaults for what requests leave out.
        model_name: what /v1/models lists.
    """
    app = FastAPI(title="burnish", max_body_size=MAX_BODY_BYTES)
    _add_error_handlers(app)
    created = int(time.time())

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": model_name}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        card = {"id": model_name, "object": "model", "created": created, "owned_by": "burnish"}
        return {"object": "list", "data": [card]}

    @app.post("/generate", response_model=None)
    async def generate(body: GenerateRequest, request: Request) -> Any:
        job = engine.submit(body.messages(section.system_prompt), body.sampling(section))
        return {"output": await _whole_answer(job, request)}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Any:
        job = engine.submit(
            body.conversation(section.system_prompt), body.sampling(section), body.stops()
        )
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model_name,
        }
        if body.stream:
            counted = body.stream_options is not None and body.stream_options.include_usage
            events = _events(job, head, counted=counted)
            return StreamingResponse(events, media_type="text/event-stream")
        text = await _whole_answer(job, request)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": job.finish_reason,
        }
        return {
            **head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage(len(job.prompt), job.num_new),
        }

    return app


async def _next_piece(job: Job) -> str | None:
    """The next piece of an answer, None at its end; waits without holding the event loop."""
    piece = await asyncio.to_thread(job.pieces.get)
    if isinstance(piece, Exception):
        raise piece
    return piece


async def _whole_answer(job: Job, request: Request) -> str:
    """The whole answer; the work stops when the client has left."""
    watcher = asyncio.create_task(_cancel_when_gone(job, request))
    pieces = []
    try:
        while (piece := await _next_piece(job)) is not None:
            pieces.append(piece)
    finally:
        watcher.cancel()
    return "".join(pieces)


async def _cancel_when_gone(job: Job, request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
    job.cancelled.set()


async def _events(job: Job, head: dict[str, Any], *, counted: bool) -> AsyncIterator[str]:
    """The answer as server-sent events in OpenAI's form."""

    def event(delta: dict[str, str] | None, finish: str | None = None) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        body = {**head, "object": "chat.completion.chunk", "choices": choices}
        if counted:
            body["usage"] = usage(len(job.prompt), job.num_new) if delta is None else None
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

    try:
        yield event({"role": "assistant", "content": ""})
        try:
            while (piece := await _next_piece(job)) is not None:
                yield event({"content": piece})
        except Exception:  # the status line is gone already: say so in the stream
            yield f"data: {json.dumps(_problem('the answer failed', 'server_error'))}\n\n"
            raise
        yield event({}, job.finish_reason)
        if counted:
            yield event(None)
        yield "data: [DONE]\n\n"
    finally:
        job.cancelled.set()


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
        return JSONResponse(_problem("; ".join(faults), "invalid_request_error"), 422)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        body = _problem(str(error), "overloaded_error")
        return JSONResponse(body, 503, headers={"Retry-After": "5"})

    @app.exception_handler(BurnishError)
    async def refused(request: Request, error: BurnishError) -> JSONResponse:
        return JSONResponse(_problem(str(error), "invalid_request_error"), 400)
