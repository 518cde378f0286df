"""The program, the options that its commands share, and its entry point."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish import __version__
from burnish.exits import run_command
from burnish.terminal import quiet_libraries

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


def main() -> None:
    """The entry point: an error a user can meet is one message and exit code 2."""
    debug = "--debug" in sys.argv
    if not debug:
        quiet_libraries()
    run_command(app, debug=debug)


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


def load(recipe: Path, overrides: list[str] | None) -> Any:
    """The recipe of a command, with what `--set` changes."""
    from burnish.recipe_file import load_recipe

    return load_recipe(recipe, overrides or ())
