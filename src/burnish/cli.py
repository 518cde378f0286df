"""One command per verb, a few lines each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish import __version__
from burnish.exits import run_command
from burnish.terminal import print_report, quiet_libraries, report_of, stdout_for_report

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

LaunchOption = Annotated[
    str | None,
    typer.Option(
        "--launch",
        metavar="ENGINE",
        help="Train in several processes: torchrun, accelerate, deepspeed or ray.",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="How many, over all nodes; by default one per GPU."),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How the processes hold the model: ddp (each the whole of it), fsdp2 (accelerate), "
        "zero2 or zero3 (deepspeed).",
    ),
]
Nodes = Annotated[int, typer.Option("--nodes", min=1, help="How many machines take part.")]
NodeRank = Annotated[
    int, typer.Option("--node-rank", min=0, help="Which of them this is; 0 holds the run folder.")
]
MainAddress = Annotated[
    str | None,
    typer.Option("--main-address", metavar="HOST:PORT", help="Where the others find node 0."),
]


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


@app.command()
def run(
    recipe: RecipePath,
    launch: LaunchOption = None,
    processes: Processes = None,
    strategy: Strategy = None,
    set_: Set = None,
    force: Force = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """All stages, from the raw file to the quantized model; unchanged ones are skipped."""
    from burnish.pipeline import AS_USUAL
    from burnish.pipeline import run as run_all

    how = _launch(launch, processes=processes, strategy=strategy)
    instead = AS_USUAL if how is None else {"train": _launched(how)}
    report_of(lambda: run_all(_load(recipe, set_), force=force, instead=instead), as_json=json_)


def _launch(engine: str | None, **options: Any) -> Any:
    """How training is spread over processes; None if it is not."""
    from burnish.errors import RecipeError
    from burnish.training.launch.options import Launch

    how = Launch(engine or "", **options)
    if engine is None and how != Launch(""):
        raise RecipeError(
            "--launch",
            "it says what starts several processes, and the options for those need it.",
            "Take torchrun, accelerate, deepspeed or ray.",
        )
    return how if engine is not None else None


def _launched(how: Any) -> Any:
    from functools import partial

    from burnish.training.launch.launching import launch

    return partial(launch, how=how)


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


@app.command()
def train(
    recipe: RecipePath,
    launch: LaunchOption = None,
    processes: Processes = None,
    strategy: Strategy = None,
    nodes: Nodes = 1,
    node_rank: NodeRank = 0,
    main_address: MainAddress = None,
    set_: Set = None,
    force: Force = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Examples -> a LoRA adapter."""
    from burnish.pipeline import require, run_stage

    how = _launch(
        launch,
        processes=processes,
        strategy=strategy,
        nodes=nodes,
        node=node_rank,
        address=main_address,
    )

    def work() -> Any:
        loaded = _load(recipe, set_)
        if how is None or not how.node:
            instead = None if how is None else _launched(how)
            return run_stage("train", loaded, force=force, work=instead)
        from burnish.training.launch.launching import join

        folder = require("prepare", loaded)
        join(loaded.recipe.model, loaded.recipe.train, folder, how=how)
        return {"node": how.node, "processes": how.processes}

    report_of(work, as_json=json_)


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

    loaded = _load(recipe, set_)
    asking = Asking(api, model, key, strict, timeout)

    def work() -> Any:
        folder = require("prepare", loaded)
        section = loaded.recipe.serve
        return verify(loaded.recipe.model, section, folder, url, asking).model_dump()

    report_of(work, as_json=json_)


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

    loaded = _load(recipe, set_)
    with stdout_for_report(json_) as out:
        folder = require("prepare", loaded)
        section = loaded.recipe.train
        report = verify(loaded.recipe.model, section, folder, steps=steps, cut=cut or steps // 2)
        print_report(report.model_dump(), out, as_json=json_)
    refuse_difference(report)


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
            loaded = _load(target, set_)
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
    loaded = _load(recipe, set_)
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
        float, typer.Option(metavar="US", min=0, help="Of a message, with --bandwidth.")
    ] = 20,
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

    loaded = _load(recipe, set_)
    link = Link.given(bandwidth, latency) if bandwidth else None
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
def sweep(
    recipe: RecipePath,
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            metavar="KEY=VALUES",
            help="A setting and its values: train.learning_rate=1e-4,3e-4. For --search also a "
            "range: train.learning_rate=1e-5..1e-3:log.",
        ),
    ],
    search: Annotated[
        int | None,
        typer.Option("--search", metavar="N", min=1, help="Let Optuna choose so many trials."),
    ] = None,
    set_: Set = None,
    force: Force = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Trains with every combination of some settings, and compares what they reach."""
    from burnish.sweeping import sweep as try_all

    report_of(lambda: try_all(recipe, set_ or [], vary, search=search, force=force), as_json=json_)


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
    folder = recipe if recipe.is_dir() else _load(recipe, set_).run_dir
    look(RunDir(folder.absolute()), Console(), once=once)


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
