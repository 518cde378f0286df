"""Bodies that are too large never reach the application whole."""

from __future__ import annotations

import asyncio

import pytest
from starlette.exceptions import HTTPException

from burnish.serving.body_limit import BodyLimit


def received(chunks, *, headers=(), scope_type="http"):
    """What an application behind a limit of ten bytes reads, and how many messages were taken."""
    waiting = list(chunks)
    body = bytearray()

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            body.extend(message.get("body", b""))
            more = message.get("more_body", False)

    async def receive():
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    scope = {"type": scope_type, "headers": list(headers)}
    try:
        asyncio.run(BodyLimit(app, max_bytes=10)(scope, receive, None))
    except HTTPException as error:
        return error.status_code, len(chunks) - len(waiting)
    return bytes(body), len(chunks) - len(waiting)


def test_a_body_as_large_as_allowed_comes_whole():
    assert received([b"12345", b"67890"]) == (b"1234567890", 2)


def test_a_body_is_refused_at_the_piece_that_is_too_much():
    assert received([b"12345", b"678901", b"more"]) == (413, 2)


def test_a_body_that_says_it_is_too_large_is_not_read():
    assert received([b"x" * 11], headers=[(b"content-length", b"11")]) == (413, 0)


@pytest.mark.parametrize("size", [b"", b"many", b"-5", b"\xb2"])
def test_a_size_that_is_no_number_is_found_by_counting(size):
    assert received([b"x" * 11], headers=[(b"content-length", size)]) == (413, 1)


def test_what_is_no_request_passes():
    assert received([b"x" * 50], scope_type="lifespan") == (b"x" * 50, 1)
