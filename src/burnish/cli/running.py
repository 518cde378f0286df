"""Commands that make something of a recipe: its stages, all of them, and sweeps."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from burnish.cli.app import Debug, Force, Json, RecipePath, Set, app, load
from burnish.terminal import report_of

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

    def work() -> Any:
        loaded = load(recipe, set_)
        instead = AS_USUAL if how is None else {"train": _launched(how, loaded)}
        return run_all(loaded, force=force, instead=instead)

    report_of(work, as_json=json_)


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


def _launched(how: Any, loaded: Any) -> Any:
    """What trains in several processes; its options are checked before any stage is begun."""
    from functools import partial

    from burnish.training.launch.launching import launch
    from burnish.training.launch.options import checked

    return partial(launch, how=checked(how, loaded.recipe.model, loaded.recipe.train))


def _stage(name: str, help_: str) -> None:
    def command(
        recipe: RecipePath,
        set_: Set = None,
        force: Force = False,
        json_: Json = False,
        debug: Debug = False,
    ) -> None:
        from burnish.pipeline import run_stage

        report_of(lambda: run_stage(name, load(recipe, set_), force=force), as_json=json_)

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
    """Examples -> a LoRA adapter, or the whole model (train.method)."""
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
        loaded = load(recipe, set_)
        if how is None or not how.node:
            instead = None if how is None else _launched(how, loaded)
            return run_stage("train", loaded, force=force, work=instead)
        from burnish.training.launch.launching import join
        from burnish.training.launch.options import checked

        model, section = loaded.recipe.model, loaded.recipe.train
        options = checked(how, model, section)
        join(model, section, require("prepare", loaded), how=options)
        return {"node": options.node, "processes": options.processes}

    report_of(work, as_json=json_)


_stage("evaluate", "Base and adapter on held-out examples, prompts and benchmarks.")
_stage("merge", "Adapter -> a plain model, checked against base + adapter.")
_stage("quantize", "The merged model -> GPTQ, checked after reloading.")


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
    from burnish.sweeping.sweep import sweep as try_all

    report_of(lambda: try_all(recipe, set_ or [], vary, search=search, force=force), as_json=json_)
