"""The serve verb: opens the port first, then loads the model, then answers until stopped."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from burnish.errors import MissingExtraError, RunError, ServingError
from burnish.models.loading import load_artifact, set_threads
from burnish.models.names import find_model
from burnish.parity.checks import check_base, check_folder, check_run
from burnish.progress import say, warn
from burnish.recipe import ModelSection, ServeSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir
from burnish.serving.engine import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ServeReport(BaseModel):
    """Where the server listens, and what answers there."""

    model_config = ConfigDict(frozen=True)

    url: str
    model: str
    artifact: str


def serve(
    model: ModelSection,
    section: ServeSection,
    run: RunDir,
    *,
    on_ready: Callable[[ServeReport], None],
) -> None:
    """Serves a run's model until it is stopped.

    Raises:
        ServingError: the port is taken or the address is not this machine's.
        RunError: the run has no such model yet.
    """
    try:
        import uvicorn

        from burnish.serving.app import create_app
    except ImportError:
        raise MissingExtraError("fastapi and uvicorn", "serve") from None
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(_listen(section.host, section.port))
        engine = opened.enter_context(contextlib.closing(load_engine(model, section, run)))
        app = create_app(engine, section, run.path.name)
        if section.host not in ("127.0.0.1", "localhost", "::1"):
            warn(f"anyone who reaches {section.host} can use this server; it asks for no key")
        host = f"[{section.host}]" if ":" in section.host else section.host
        url = f"http://{host}:{section.port}"
        on_ready(ServeReport(url=url, model=str(_folder(section, run)), artifact=section.artifact))
        config = uvicorn.Config(
            app, log_level="warning", timeout_keep_alive=30, timeout_graceful_shutdown=5
        )
        uvicorn.Server(config).run(sockets=[listener])


def load_engine(model: ModelSection, section: ServeSection, run: RunDir) -> Engine:
    """The engine around the artifact that the recipe names, with the tokenizer of training."""
    _check_made(section, run)
    threads = set_threads()
    say(f"loading the {section.artifact} model; {threads} threads")
    tokenizer = load_tokenizer(run.tokenizer, model)
    _check_prompts(model, section, run, tokenizer)
    return Engine(load_artifact(section.artifact, model, run), tokenizer)


def _check_prompts(
    model: ModelSection, section: ServeSection, run: RunDir, tokenizer: PreTrainedTokenizerBase
) -> None:
    certificate = check_run(model, run, tokenizer)
    if section.artifact in ("merged", "quantized"):
        check_folder(certificate, model, Path(_folder(section, run)))
    else:
        check_base(certificate, model, find_model(model))
    if section.system_prompt:
        say(
            f"conversations that bring no system prompt get serve.system_prompt: "
            f"{section.system_prompt!r}"
        )


def _folder(section: ServeSection, run: RunDir) -> Path | str:
    places = {"merged": run.merged, "quantized": run.quantized, "adapter": run.trained}
    return places.get(section.artifact, section.artifact)


def _check_made(section: ServeSection, run: RunDir) -> None:
    verbs = {"merged": "merge", "quantized": "quantize", "adapter": "train", "base": "prepare"}
    place = run.tokenizer if section.artifact == "base" else Path(_folder(section, run))
    if not place.is_dir():
        verb = verbs[section.artifact]
        raise RunError(
            str(run.path),
            f"this run has no {section.artifact} model yet.",
            f"Make it with: burnish {verb} RECIPE (or all stages with: burnish run RECIPE)",
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServingError(
            f"{host}:{port}",
            f"the server can't listen there: {error.strerror or error}.",
            f"Stop what uses the port, or choose another: --set serve.port={port % 65535 + 1}",
        ) from None
    return listener
