"""JSON over HTTP to somebody's server: bounded in time and size, with an error for all that fails.

Python's own client is enough for a few requests, and needs no package.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from burnish.errors import ServingError

MAX_REPLY_BYTES = 16 * 2**20
TIMEOUT_SECONDS = 30.0

KEY_VARIABLE = "BURNISH_SERVER_KEY"
ASKS_FOR_KEY = (401, 403)

_NUM_SHOWN = 300
_CHUNK = 64 * 2**10


class Refused(ServingError):
    """The server answered with an error status.

    Attributes:
        status: the HTTP status.
    """

    status: int = 0


@dataclass(frozen=True, slots=True)
class Remote:
    """A server: its address, without a path for an API, and a key if it asks for one."""

    base: str
    key: str | None = None
    timeout_seconds: float = TIMEOUT_SECONDS

    def get(self, path: str) -> Any:
        """The JSON value of a GET.

        Raises:
            Refused: the server answered with an error status.
            ServingError: it does not answer, too slowly, too much, or no JSON.
        """
        return self._ask(path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON value of a POST; raises as `get` does."""
        return self._ask(path, json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None) -> Any:
        url = self.base + path
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(url, body, headers)
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with _opener(self.base).open(request, timeout=self.timeout_seconds) as reply:
                text = _read(reply, url, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(url, error) from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServingError(
                url,
                f"the server does not answer: {reason or type(error).__name__}.",
                "Check the address, and that the server is up.",
            ) from None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ServingError(
                url,
                f"the answer is no JSON: {_shown(text)}.",
                "Check that the address is that of the server's API.",
            ) from None


def remote(url: str, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> Remote:
    """The server behind an address; a path to one of its APIs (/v1) is taken off.

    Raises:
        ServingError: this is no address of a server.
    """
    unusable = ServingError(
        repr(url), "this is no address of a server.", "Write it as http://HOST:PORT."
    )
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        named = parts.hostname and parts.port != 0 and not parts.username
    except ValueError:  # a port that is no number, half an IPv6 address
        raise unusable from None
    if not named or parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
        raise unusable
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    return Remote(f"{parts.scheme}://{parts.netloc}{path}", key, timeout_seconds)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Lets no server send a request, and its key, elsewhere."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


def _opener(base: str) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_NoRedirect]
    if _is_this_machine(base):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _is_this_machine(base: str) -> bool:
    host = urllib.parse.urlsplit(base).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(reply: Any, url: str, deadline: float) -> bytes:
    pieces, size = [], 0
    while piece := reply.read1(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_REPLY_BYTES:
            raise ServingError(
                url,
                f"the answer is larger than {MAX_REPLY_BYTES // 2**20} MiB.",
                "Check that the address is that of the server's API.",
            )
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
    return b"".join(pieces)


def _refused(url: str, error: urllib.error.HTTPError) -> Refused:
    target = error.headers.get("Location")
    try:
        said = error.read(4 * _NUM_SHOWN)
    except (OSError, http.client.HTTPException):
        said = b""
    remedy = f"It points to {target!r}: give that address." if target else ""
    if error.code in ASKS_FOR_KEY:
        remedy = f"Put its key into the variable {KEY_VARIABLE}."
    problem = f"the server answers with status {error.code}: {_shown(said)}."
    refused = Refused(url, problem, remedy)
    refused.status = error.code
    return refused


def _shown(text: bytes) -> str:
    """The beginning of an answer, quoted so that it can do nothing to a terminal."""
    return repr(text.decode(errors="replace")[:_NUM_SHOWN])
