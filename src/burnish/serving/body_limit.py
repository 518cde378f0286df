"""Refuses request bodies that are too large, before they are read or while they come."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Lets no request body through that is larger than `max_bytes`.

    Starlette has such a limit too, but answers in plain text where clients expect JSON.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; its body is counted as it is received.

        Raises:
            HTTPException: 413, where the application reads the body.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        num_announced = int(announced) if announced.isdecimal() else 0
        num_received = 0

        async def counted() -> Message:
            nonlocal num_received
            if num_announced <= self._max_bytes:
                message = await receive()
                num_received += len(message.get("body", b""))
                if num_received <= self._max_bytes:
                    return message
            raise HTTPException(413, f"a body may have {self._max_bytes} bytes at most")

        await self._app(scope, counted, send)
