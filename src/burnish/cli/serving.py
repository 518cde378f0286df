"""Commands that let a model answer, and look at what a server would show it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from burnish.cli.app import Debug, Json, RecipePath, Set, app, load
from burnish.terminal import print_report, report_of, stdout_for_report


@app.command()
def serve(recipe: RecipePath, set_: Set = None, json_: Json = False, debug: Debug = False) -> None:
    """Answer over HTTP: POST /generate and /v1/chat/completions."""
    from burnish.serving.serve import serve as serve_run

    loaded = load(recipe, set_)
    section = loaded.recipe.serve
    with stdout_for_report(json_) as out:
        folder = _require(loaded)
        serve_run(
            loaded.recipe.model,
            section,
            folder,
            on_ready=lambda ready: print_report(ready.model_dump(), out, as_json=json_),
        )


@app.command()
def chat(
    recipe: RecipePath,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this one thing, and end.")
    ] = None,
    context: Annotated[str, typer.Option("--input", help="Context of the message.")] = "",
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Talk to the model in the terminal; a line is a message, Ctrl-D ends."""
    from burnish.conversation import Message
    from burnish.serving.chat import chat as chat_with
    from burnish.serving.serve import load_engine

    loaded = load(recipe, set_)
    with stdout_for_report(json_) as out:
        folder = _require(loaded)
        engine = load_engine(loaded.recipe.model, loaded.recipe.serve, folder)
        asked = [Message("user", message, context)] if message else _typed_messages()
        report = chat_with(
            engine, loaded.recipe.serve, asked, show=lambda text: _show(text, sys.stdout)
        )
        if json_:
            print_report(report.model_dump(), out, as_json=True)


@app.command("verify-prompts")
def verify_prompts(
    recipe: RecipePath,
    url: Annotated[str, typer.Argument(metavar="URL", help="A server, http://HOST:PORT.")],
    api: Annotated[
        str, typer.Option("--api", help="How to ask: auto, vllm, llama.cpp or burnish.")
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option("--model", help="The server's name for it; else the first that it lists."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", envvar="BURNISH_SERVER_KEY", help="A bearer token, if it asks."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings are errors: control tokens in user text.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an answer.")
    ] = 30.0,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Compare a server's prompts, token by token, with those of training."""
    from burnish.pipeline import require
    from burnish.serving.verify import Asking
    from burnish.serving.verify import verify_prompts as verify

    loaded = load(recipe, set_)
    asking = Asking(api, model, key, strict, timeout)

    def work() -> Any:
        folder = require("prepare", loaded)
        section = loaded.recipe.serve
        return verify(loaded.recipe.model, section, folder, url, asking).model_dump()

    report_of(work, as_json=json_)


def _require(loaded: Any) -> Any:
    """The run folder, with the stage that makes the served artifact done and up to date."""
    from burnish.pipeline import require

    makers = {"merged": "merge", "quantized": "quantize", "adapter": "train", "base": "prepare"}
    return require(makers[loaded.recipe.serve.artifact], loaded)


def _typed_messages() -> Iterator[Any]:
    from burnish.conversation import Message

    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield Message("user", line.rstrip("\n"))


def _show(text: str, out: Any) -> None:
    out.write(text)
    out.flush()
