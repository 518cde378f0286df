"""One command per verb, a few lines each."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish import __version__
from burnish.errors import BurnishError
from burnish.terminal import print_report, report_of, stdout_for_report

app = typer.Typer(
    name="burnish",
    help="From a file of examples to a served language model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, or a run folder.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as train.learning_rate=1e-4."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
Force = Annotated[bool, typer.Option("--force", help="Run again even if nothing has changed.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]

INTERRUPTED = 130
"""The exit code with which typer answers Ctrl-C."""


def main() -> None:
    """The entry point: an error a user can meet is one message and exit code 2."""
    debug = "--debug" in sys.argv
    if not debug:
        # Libraries tell one another about their next versions there; users can do nothing about it.
        warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except BurnishError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print(
                "stopped: what is finished stays, and a rerun goes on from there", file=sys.stderr
            )
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"burnish {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    recipe: RecipePath,
    set_: Set = None,
    force: Force = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """All stages, from the raw file to the quantized model; unchanged ones are skipped."""
    from burnish.pipeline import run as run_all

    report_of(lambda: run_all(_load(recipe, set_), force=force), as_json=json_)


def _stage(name: str, help_: str) -> None:
    def command(
        recipe: RecipePath,
        set_: Set = None,
        force: Force = False,
        json_: Json = False,
        debug: Debug = False,
    ) -> None:
        from burnish.pipeline import run_stage

        report_of(lambda: run_stage(name, _load(recipe, set_), force=force), as_json=json_)

    app.command(name, help=help_)(command)


_stage("clean", "Raw files -> conversations, with a reason for each row that was dropped.")
_stage("prepare", "Conversations -> token ids and labels, split into train, validation and test.")
_stage("train", "Examples -> a LoRA adapter.")
_stage("evaluate", "Base and adapter on held-out examples, prompts and benchmarks.")
_stage("merge", "Adapter -> a plain model, checked against base + adapter.")
_stage("quantize", "The merged model -> GPTQ, checked after reloading.")


@app.command()
def serve(recipe: RecipePath, set_: Set = None, json_: Json = False, debug: Debug = False) -> None:
    """Answer over HTTP: POST /generate and /v1/chat/completions."""
    from burnish.serving.serve import serve as serve_run

    loaded = _load(recipe, set_)
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

    loaded = _load(recipe, set_)
    with stdout_for_report(json_) as out:
        folder = _require(loaded)
        engine = load_engine(loaded.recipe.model, loaded.recipe.serve, folder)
        asked = [Message("user", message, context)] if message else _typed_messages()
        report = chat_with(
            engine, loaded.recipe.serve, asked, show=lambda text: _show(text, sys.stdout)
        )
        if json_:
            print_report(report.model_dump(), out, as_json=True)


@app.command()
def new(
    data: Annotated[Path, typer.Argument(metavar="DATAFILE", help="A file of examples.")],
    out: Annotated[Path | None, typer.Option("--out", help="The recipe to write.")] = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Look at a data file and write a recipe for it."""
    from burnish.authoring import new as new_recipe

    report_of(lambda: new_recipe(data, out).model_dump(), as_json=json_)


@app.command()
def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A data file, folder, pattern or hf: name; a recipe or a run folder.",
        ),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page, too.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Whose tokens to count; else the recipe's."),
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Look at data: lengths, faults, duplicates, and what cleaning would do. Changes nothing."""
    from burnish.auditing.audit import audit as look

    report_of(lambda: look(target, set_ or (), model=model, page=html).model_dump(), as_json=json_)


@app.command()
def preview(
    recipe: RecipePath,
    row: Annotated[
        int | None, typer.Option("--row", help="Which cleaned row, from 1; at random by default.")
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show one example as the model sees it, with the tokens that carry loss in colour."""
    from burnish.dataset.preview import preview as preview_row
    from burnish.pipeline import require

    loaded = _load(recipe, set_)
    with stdout_for_report(json_) as out:
        folder = require("clean", loaded)
        example, text = preview_row(loaded.recipe.model, loaded.recipe.prepare, folder, row=row)
        summary = {
            "origin": example.origin,
            "num_tokens": len(example.input_ids),
            "num_supervised": example.num_supervised,
            "num_cut": example.num_cut,
        }
        if json_:
            rows = {"input_ids": example.input_ids, "labels": example.labels}
            print_report({**summary, **rows}, out, as_json=True)
        else:
            from rich.console import Console

            Console(highlight=False, soft_wrap=True).print(text)
            print_report(summary, out, as_json=False)


@app.command()
def doctor(json_: Json = False, debug: Debug = False) -> None:
    """What this machine has, and which model sizes it can tune."""
    from burnish.doctor import doctor as examine

    report_of(lambda: examine().model_dump(), as_json=json_)


@app.command()
def schema() -> None:
    """The JSON schema of recipes, for editors."""
    from burnish.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), ensure_ascii=False, indent=2))


def _load(recipe: Path, overrides: list[str] | None) -> Any:
    from burnish.recipe_file import load_recipe

    return load_recipe(recipe, overrides or ())


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
