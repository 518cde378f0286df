"""Commands that serve: what stops them before a model is loaded."""

from __future__ import annotations

import socket

from tests.cli.commands import burnish, fails


def test_a_port_in_use_is_an_error_before_the_model_is_loaded(tiny, tmp_path):
    done = burnish("run", tiny, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = fails("serve", tiny, "--set", f"serve.port={port}", folder=tmp_path)
    assert message.startswith(f"error: 127.0.0.1:{port}: the server can't listen there: ")
    assert f"--set serve.port={port + 1}" in message
