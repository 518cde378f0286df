"""The serve verb: its port, its model and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from burnish.errors import RunError, ServingError
from burnish.pipeline import run_stage
from burnish.recipe import ServeSection
from burnish.run_dir import RunDir
from burnish.serving.serve import serve


@pytest.fixture
def prepared(tiny_recipe):
    for stage in ("clean", "prepare"):
        run_stage(stage, tiny_recipe)
    return tiny_recipe


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def never(report):
    raise AssertionError("it must not come up")


def test_a_port_in_use_is_said_before_a_model_is_loaded(prepared):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        section = ServeSection(artifact="base", port=port)
        with pytest.raises(ServingError) as caught:
            serve(prepared.recipe.model, section, RunDir(prepared.run_dir), on_ready=never)
    assert caught.value.exit_code == 2
    assert caught.value.where == f"127.0.0.1:{port}"
    assert "Address already in use" in caught.value.problem
    assert f"--set serve.port={port % 65535 + 1}" in caught.value.remedy


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machines_is_refused(prepared, host):
    section = ServeSection(artifact="base", host=host, port=free_port())
    with pytest.raises(ServingError, match="can't listen there"):
        serve(prepared.recipe.model, section, RunDir(prepared.run_dir), on_ready=never)


@pytest.mark.parametrize(
    "artifact, verb", [("merged", "merge"), ("quantized", "quantize"), ("adapter", "train")]
)
def test_a_model_that_was_not_made_yet_names_the_verb_that_makes_it(prepared, artifact, verb):
    section = ServeSection(artifact=artifact, port=free_port())
    with pytest.raises(RunError, match=f"no {artifact} model yet") as caught:
        serve(prepared.recipe.model, section, RunDir(prepared.run_dir), on_ready=never)
    assert f"burnish {verb} RECIPE" in caught.value.remedy
    with socket.create_server(("127.0.0.1", section.port)):
        pass  # the port is free again


SERVE = """
import sys
from pathlib import Path
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from burnish.serving.serve import serve

recipe = load_recipe(Path(sys.argv[1]), [f"serve.port={sys.argv[2]}", "serve.artifact=base"])
serve(recipe.recipe.model, recipe.recipe.serve, RunDir(recipe.run_dir),
      on_ready=lambda report: print(report.model_dump_json(), flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_it_says_where_it_listens_answers_and_ends_when_told_to(prepared, tmp_path):
    port = free_port()
    command = [sys.executable, "-c", SERVE, str(tmp_path / "recipe.yaml"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        report = json.loads(line)
        assert report == {
            "url": f"http://127.0.0.1:{port}",
            "model": "base",
            "artifact": "base",
        }
        body = {"instruction": "Hi", "max_new_tokens": 3}
        response = httpx.post(f"{report['url']}/generate", json=body, timeout=60, trust_env=False)
        assert response.status_code == 200
        assert set(response.json()) == {"output"}
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGTERM)
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()
