"""JSON from somebody's server: what goes wrong is one clear error."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from burnish.errors import ServingError
from burnish.serving import remote as module
from burnish.serving.remote import Refused, remote
from tests.serving.fake_servers import listening


def test_values_come_and_go_as_json_and_a_key_goes_along():
    with listening({"/double": lambda body: {"is": 2 * body["a"]}, "/v": lambda body: [1]}) as fake:
        server = remote(fake.url, "s3cret")
        assert server.post("/double", {"a": 21}) == {"is": 42}
        assert server.get("/v") == [1]
        assert fake.requests[0][2]["Authorization"] == "Bearer s3cret"
        remote(fake.url).get("/v")
        assert "Authorization" not in fake.requests[-1][2]


@pytest.mark.parametrize(
    "url, base",
    [
        ("http://a:80", "http://a:80"),
        ("https://a/", "https://a"),
        ("a:8000", "http://a:8000"),
        ("http://a:8000/v1", "http://a:8000"),
        ("http://a:8000/v1/", "http://a:8000"),
        ("http://a/proxy/v1/chat/completions", "http://a/proxy"),
        ("http://[::1]:7", "http://[::1]:7"),
    ],
)
def test_a_path_to_an_api_is_taken_off_an_address(url, base):
    assert remote(url).base == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "file:///etc/passwd",
        "ftp://a",
        "http://a:b",
        "http://a:99999",
        "http://[::1",
        "http://a b",
        "http://a\n",
        "http://user:password@a",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(url):
    with pytest.raises(ServingError, match="no address of a server") as caught:
        remote(url)
    assert "http://HOST:PORT" in caught.value.remedy


def test_an_error_status_is_said_with_what_the_server_says():
    with listening({"/x": lambda body: (418, {"error": "short\x1b[2J"})}) as fake:
        with pytest.raises(Refused, match="status 418") as caught:
            remote(fake.url).get("/x")
        assert caught.value.status == 418
        assert "short" in caught.value.problem
        assert "\x1b" not in caught.value.problem
        with pytest.raises(Refused) as caught:
            remote(fake.url).get("/nothing")
        assert caught.value.status == 404


def test_nobody_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServingError, match=r"does not answer: .*refused"):
        remote(f"127.0.0.1:{port}").get("/")


def test_a_name_that_does_not_exist_is_said():
    with pytest.raises(ServingError, match="does not answer"):
        remote("http://no-such-host.invalid").get("/")


def test_a_server_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = remote(f"127.0.0.1:{mute.getsockname()[1]}", timeout_seconds=0.2)
        with pytest.raises(ServingError, match="timed out"):
            server.get("/")


def test_an_answer_that_drips_is_not_waited_for():
    # A thread that writes byte after byte, each well within the time-out of a read.
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(40):
                    connection.sendall(b" ")
                    time.sleep(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    started = time.monotonic()
    with pytest.raises(ServingError, match="timed out"):
        remote(f"127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.3).get("/")
    assert time.monotonic() - started < 1.5
    thread.join()
    listener.close()


def test_an_answer_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(module, "MAX_REPLY_BYTES", 2**20)
    with listening({"/big": lambda body: "x" * 2**21}) as fake:
        with pytest.raises(ServingError, match="larger than 1 MiB"):
            remote(fake.url).get("/big")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\n<html>hello</html>",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe\xfd",
        b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_said(raw):
    with listening({"/x": lambda body: raw}) as fake:
        with pytest.raises(ServingError, match="no JSON"):
            remote(fake.url).get("/x")


@pytest.mark.parametrize("raw", [b"\x00\x01\x02\r\n\r\n", b"HTTP/1.0 abc OK\r\n\r\n", b""])
def test_what_is_no_http_is_said(raw):
    with listening({"/x": lambda body: raw}) as fake:
        with pytest.raises(ServingError, match="does not answer"):
            remote(fake.url).get("/x")


def test_a_request_and_its_key_are_not_sent_on_to_another_address():
    with listening({"/x": lambda body: {}}) as other:
        target = other.url
        raw = f"HTTP/1.0 307 Moved\r\nLocation: {target}/x\r\n\r\n".encode()
        with listening({"/x": lambda body: raw}) as fake:
            for ask in (remote(fake.url, "key").get, lambda p: remote(fake.url).post(p, {})):
                with pytest.raises(Refused, match="status 307") as caught:
                    ask("/x")
                assert target in caught.value.remedy
        assert other.requests == []


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with listening({"/v": lambda body: [1]}) as fake:
        assert remote(fake.url).get("/v") == [1]
