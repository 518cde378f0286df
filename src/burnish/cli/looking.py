"""Commands that look and change nothing, and `new`, which writes a recipe from a look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import Debug, Json, RecipePath, Set, app, load
from burnish.errors import RecipeError
from burnish.terminal import print_report, report_of, stdout_for_report


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


@app.command("audit-labels")
def audit_labels(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="A recipe, a run folder, or a folder written by save_to_disk."
        ),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page, too.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="Whose tokenizer made the folder; a run knows its own."
        ),
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Check every prepared example: what carries loss, stop tokens, cut answers. Changes nothing.

    Ends with exit code 2 if there are errors.
    """
    from burnish.dataset.label_audit import audit_run, audit_saved, refuse_errors
    from burnish.pipeline import require
    from burnish.recipe_file import RECIPE_NAME

    with stdout_for_report(json_) as out:
        if target.is_dir() and not (target / RECIPE_NAME).is_file():
            report = audit_saved(target, model, html)
        else:
            loaded = load(target, set_)
            folder = require("prepare", loaded)
            report = audit_run(loaded.recipe.model, loaded.recipe.prepare, folder, html)
        shown = report.model_dump() if json_ else report.for_reader()
        print_report(shown, out, as_json=json_)
    refuse_errors(report)


@app.command()
def preview(
    recipe: RecipePath,
    row: Annotated[int | None, typer.Option("--row", help="A cleaned row, from 1.")] = None,
    origin: Annotated[
        str | None, typer.Option("--origin", metavar="FILE:LINE", help="The row from there.")
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Rows at random, the same ones each time; the default.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Other rows at random; else prepare.seed decides.")
    ] = None,
    longest: Annotated[bool, typer.Option("--longest", help="The longest rows.")] = False,
    shortest: Annotated[bool, typer.Option("--shortest", help="The shortest rows.")] = False,
    most_cut: Annotated[
        bool, typer.Option("--most-cut", help="Those of which most is cut off.")
    ] = False,
    count: Annotated[int, typer.Option("--count", min=1, help="How many rows.")] = 1,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page instead.")
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show examples as the model sees them, token by token, with what carries loss in colour."""
    from burnish.dataset.preview import preview as preview_rows
    from burnish.dataset.preview import wanted, write_preview
    from burnish.labels.marked import print_example
    from burnish.pipeline import require

    orders = {"longest": longest, "shortest": shortest, "most_cut": most_cut, "random": random}
    asked = wanted(row, origin, [name for name, is_so in orders.items() if is_so], seed, count)
    loaded = load(recipe, set_)
    with stdout_for_report(json_) as out:
        folder = require("clean", loaded)
        shown, tokenizer = preview_rows(loaded.recipe.model, loaded.recipe.prepare, folder, asked)
        if html:
            write_preview(html, shown, tokenizer)
        if json_:
            examples = [example.as_report(with_ids=True) for example in shown]
            print_report({"examples": examples}, out, as_json=True)
            return
        for example in shown:
            if not html:
                print_example(example.input_ids, example.labels, tokenizer)
            print_report(example.as_report(with_ids=False), out, as_json=False)


@app.command()
def plan(
    recipe: RecipePath,
    gpu: Annotated[
        float | None,
        typer.Option("--gpu", metavar="GIB", min=0.1, help="Plan for a GPU of that memory."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option("--price-per-hour", min=0, help="For the cost of the run.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(help="Run a few micro batches for their time; else it is an estimate."),
    ] = True,
    model_config: Annotated[
        Path | None,
        typer.Option(
            "--model-config", metavar="FILE", help="A config.json to plan for; needs no weights."
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(min=1, help="Plan also for so many machines or GPUs."),
    ] = 1,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            metavar="GB/S",
            min=0.001,
            help="Between two of them; by default that of two processes here is measured.",
        ),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(metavar="US", min=0, help="Of a message, with --bandwidth; 20 by default."),
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """What training would take: memory by part, time, disk, cost; and what would make it fit."""
    import tempfile

    from burnish.pipeline import rows_to_plan
    from burnish.planning.cluster import Link
    from burnish.planning.plan import Target
    from burnish.planning.plan import plan as look_ahead
    from burnish.training.rehearsal import rehearsed_loop

    loaded = load(recipe, set_)
    if latency is not None and bandwidth is None:
        raise RecipeError("--latency", "it says nothing without --bandwidth.", "Name both.")
    link = Link.given(bandwidth, 20 if latency is None else latency) if bandwidth else None
    target = Target(gpu, price_per_hour, calibrate, model_config, processes, link)
    with tempfile.TemporaryDirectory(prefix="burnish-plan-") as scratch:
        report_of(
            lambda: look_ahead(
                loaded.recipe,
                *rows_to_plan(loaded, Path(scratch)),
                target,
                rehearsed_loop,
            ).model_dump(),
            as_json=json_,
        )


@app.command()
def watch(
    recipe: RecipePath,
    once: Annotated[bool, typer.Option("--once", help="Draw one picture, and end.")] = False,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Draw loss, learning rate and speed of a training run while it goes; Ctrl-C ends the watch."""
    from rich.console import Console

    from burnish.run_dir import RunDir
    from burnish.training.watch import watch as look

    # A run folder may be watched before its first stage has left a recipe there.
    folder = recipe if recipe.is_dir() else load(recipe, set_).run_dir
    look(RunDir(folder.absolute()), Console(), once=once)


@app.command("verify-resume")
def verify_resume(
    recipe: RecipePath,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Train so many steps.")] = 6,
    cut: Annotated[
        int | None, typer.Option("--cut", min=1, help="Cut behind this one; else in the middle.")
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Prove on a recipe that training which is cut and resumed comes to the same, bit by bit.

    Trains a few steps twice, in scratch folders. Ends with exit code 2 if anything differs.
    """
    from burnish.pipeline import require
    from burnish.training.verify_resume import refuse_difference
    from burnish.training.verify_resume import verify_resume as verify

    loaded = load(recipe, set_)
    with stdout_for_report(json_) as out:
        folder = require("prepare", loaded)
        section = loaded.recipe.train
        report = verify(loaded.recipe.model, section, folder, steps=steps, cut=cut or steps // 2)
        print_report(report.model_dump(), out, as_json=json_)
    refuse_difference(report)


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
