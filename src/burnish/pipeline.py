"""run(): the stages in order, the table of contents in code.

A stage's key is the hash of the settings that its function takes, of its parents' outputs and of
the outside files that it reads. It is run again only when the key or its files have changed.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import ModelError, RunError
from burnish.progress import say, silence
from burnish.reading.folders import find_files
from burnish.recipe import Recipe
from burnish.recipe_file import LoadedRecipe, dump_recipe
from burnish.run_dir import (
    CHECKPOINTS,
    KEY_FILE,
    PARTS,
    RunDir,
    digest,
    file_sha256,
    now,
    outputs_digest,
)

Report = dict[str, Any]

Work = Callable[..., Any]
"""What takes the arguments of a stage function and gives its report."""

AS_USUAL: Mapping[str, Work] = {}
"""Every stage is done by its own function."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A verb that writes a folder of the run.

    Attributes:
        name: the verb, its function and its section in the recipe.
        function: `module:function`, loaded when it is needed.
        sections: the recipe's sections that the function takes, in order; they make up its key.
        parents: the stages whose outputs it reads.
        outside: what else it reads, hashed: a function of the recipe and the run folder.
        unfinished: the folder in its own that an interruption leaves, to be taken up again; "." for
            all of it, where the stage writes in place. Else an old result stays until a new one is
            whole.
        judges: whether the stage itself looks at what an interruption left, and refuses what was
            made from other inputs; else that is cleared away.
        check: `module:function` that raises what the stage would, before it writes; asked before an
            old result goes.
    """

    name: str
    function: str
    sections: tuple[str, ...]
    parents: tuple[str, ...] = ()
    outside: Callable[[Recipe, RunDir], Report] = lambda recipe, folder: {}
    unfinished: str = ""
    judges: bool = False
    check: str = ""

    @property
    def writes_in_place(self) -> bool:
        """Whether its old files go before it makes new ones."""
        return self.unfinished == "."

    def call(self, recipe: Recipe, run: RunDir, work: Work | None = None) -> Any:
        """Runs the stage, or other work that does the same, and returns its report."""
        return (work or _loaded(self.function))(*self._arguments(recipe), run)

    def refuse(self, recipe: Recipe, run: RunDir) -> None:
        """Raises what the stage would raise before it writes, and leaves what it warns of to it."""
        with silence():
            _loaded(self.check)(*self._arguments(recipe), run)

    def _arguments(self, recipe: Recipe) -> list[Any]:
        return [getattr(recipe, section) for section in self.sections]


def _loaded(name: str) -> Work:
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    return work


def _source_hashes(recipe: Recipe, folder: RunDir) -> Report:
    """The sha256 of every file that is read; a folder goes by the names, sizes and times."""
    asked = recipe.clean.contamination
    names = [source.path for source in recipe.data.sources]
    names += [*asked.against, *filter(None, [asked.benchmarks_folder])]
    hashes = {name: _content_hash(name, folder.path) for name in names}
    return {name: value for name, value in hashes.items() if value}


def _content_hash(name: str, run_path: Path) -> str | None:
    """The hash of a file, a folder or the files that fit a pattern; None of what is elsewhere.

    A run folder within the data is left out: each run would make the data of the next others.
    """
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return file_sha256(path)
    files = (file for file, _ in find_files(path).files)
    own = run_path.resolve()
    found = [p for p in files if own not in p.resolve().parents]
    if not found:
        return None
    return digest([[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in found])


def _tokenizer_fingerprint(recipe: Recipe, _: RunDir) -> Report:
    from burnish.models.names import find_model, fingerprint

    return {"tokenizer": fingerprint(find_model(recipe.model, weights=False), weights=False)}


def _model_fingerprint(recipe: Recipe, _: RunDir) -> Report:
    from burnish.models.names import find_model, fingerprint

    return {"model": fingerprint(find_model(recipe.model))}


STAGES = (
    Stage(
        "clean",
        "burnish.cleaning.clean:clean",
        ("data", "clean"),
        outside=_source_hashes,
        unfinished=PARTS,
    ),
    Stage(
        "prepare",
        "burnish.dataset.prepare:prepare",
        ("model", "prepare"),
        parents=("clean",),
        outside=_tokenizer_fingerprint,
    ),
    Stage(
        "train",
        "burnish.training.train:train",
        ("model", "train"),
        parents=("prepare",),
        outside=_model_fingerprint,
        unfinished=".",
        judges=True,
        check="burnish.training.train:check",
    ),
    Stage(
        "evaluate",
        "burnish.evaluation.evaluate:evaluate",
        ("model", "evaluate"),
        parents=("prepare", "train"),
    ),
    Stage("merge", "burnish.export.merge:merge", ("model", "merge"), parents=("prepare", "train")),
    Stage(
        "quantize",
        "burnish.export.quantize:quantize",
        ("model", "quantize"),
        parents=("prepare", "merge"),
    ),
)

STAGE_BY_NAME = {stage.name: stage for stage in STAGES}


def run(
    loaded: LoadedRecipe, *, force: bool = False, instead: Mapping[str, Work] = AS_USUAL
) -> dict[str, Report]:
    """Runs every stage whose inputs or settings have changed; returns all reports.

    Args:
        loaded: the recipe.
        force: run unchanged stages, too.
        instead: what does the work of a stage in its function's place, by the stage's name.
    """
    folder = RunDir(loaded.run_dir)
    reports: dict[str, Report] = {}
    with folder.locked():
        for stage in STAGES:
            work = instead.get(stage.name)
            reports[stage.name] = _run_stage(stage, loaded.recipe, folder, force=force, work=work)
    return reports


def run_stage(
    name: str, loaded: LoadedRecipe, *, force: bool = False, work: Work | None = None
) -> Report:
    """Runs one stage, if its inputs or settings have changed; returns its report.

    Args:
        name: of the stage.
        loaded: the recipe.
        force: run it even if nothing has changed.
        work: what does it in the place of the stage's function.

    Raises:
        RunError: a stage before it was not run, or has changed since.
    """
    stage = STAGE_BY_NAME[name]
    folder = RunDir(loaded.run_dir)
    with folder.locked():
        _check_ancestors(stage, loaded.recipe, folder)
        return _run_stage(stage, loaded.recipe, folder, force=force, work=work)


def require(name: str, loaded: LoadedRecipe) -> RunDir:
    """The run folder, once it is certain that a stage is done and up to date.

    Raises:
        RunError: the stage was not run, or its inputs or settings have changed since.
    """
    folder = RunDir(loaded.run_dir)
    stage = STAGE_BY_NAME[name]
    _check_ancestors(stage, loaded.recipe, folder)
    _check_done(stage, loaded.recipe, folder)
    return folder


def rows_to_plan(loaded: LoadedRecipe, scratch: Path) -> tuple[RunDir, bool]:
    """A folder with a recipe's cleaned rows, and whether they are prepared, too.

    It is the run's own as far as that is up to date; else rows are cleaned into `scratch`. Nothing
    of the run is changed.
    """
    for name in ("prepare", "clean"):
        try:
            return require(name, loaded), name == "prepare"
        except (RunError, ModelError):  # not run yet, stale, or a model without weights
            continue
    say("plan: the rows are cleaned for the moment, because clean is not up to date here")
    folder = RunDir(scratch)
    folder.folder("clean").mkdir(parents=True)
    STAGE_BY_NAME["clean"].call(loaded.recipe, folder)
    return folder, False


def _run_stage(
    stage: Stage, recipe: Recipe, folder: RunDir, *, force: bool, work: Work | None = None
) -> Report:
    key = _key(stage, recipe, folder)
    entry = folder.read_manifest()["stages"].get(stage.name)
    if entry and not force and entry["key"] == key and folder.intact(stage.name, entry["outputs"]):
        say(f"{stage.name}: unchanged since {entry['finished']}, not run again")
        return dict(entry["report"])
    say(f"{stage.name}: {_why(entry, key, force=force)}")
    if stage.check and (entry or force):
        stage.refuse(recipe, folder)
    if stage.unfinished:
        # A finished run with other settings begins again, unless the recipe says to go on.
        judges = stage.judges and (entry is None or bool(recipe.train.allow_changed))
        path = folder.folder(stage.name)
        _keep_or_clear(path, key, unfinished=stage.unfinished, force=force, judges=judges)
    if stage.writes_in_place:
        folder.forget(stage.name)
    started = now()
    report: Report = stage.call(recipe, folder, work).model_dump(mode="json", by_alias=True)
    parents = {parent: _parent_hash(parent, folder) for parent in stage.parents}
    folder.record(
        stage.name,
        {
            "key": key,
            "started": started,
            "finished": now(),
            "parents": parents,
            "outside": stage.outside(recipe, folder),
            "report": report,
            "outputs": folder.outputs(stage.name),
        },
        dump_recipe(recipe),
    )
    return report


def _why(entry: Report | None, key: str, *, force: bool) -> str:
    if force:
        return "run again as asked"
    if entry is None:
        return "started"
    return "inputs or settings have changed" if entry["key"] != key else "its files have changed"


def _key(stage: Stage, recipe: Recipe, folder: RunDir) -> str:
    return digest(
        {
            "stage": stage.name,
            "settings": {
                name: getattr(recipe, name).model_dump(mode="json") for name in stage.sections
            },
            "parents": {parent: _parent_hash(parent, folder) for parent in stage.parents},
            "outside": stage.outside(recipe, folder),
        }
    )


def _parent_hash(parent: str, folder: RunDir) -> str:
    return outputs_digest(folder.read_manifest()["stages"][parent]["outputs"])


def _keep_or_clear(
    path: Path, key: str, *, unfinished: str, force: bool, judges: bool = False
) -> None:
    """Keeps what an interrupted run left, if it was working from the same key.

    Checkpoints of a stage that judges them stay in any case: hours of work don't go unasked.
    """
    note = path / KEY_FILE
    if not force and note.is_file() and note.read_bytes() == key.encode():
        return
    if force or not judges or not any((path / CHECKPOINTS).glob("checkpoint-*")):
        if (path / unfinished).exists():
            shutil.rmtree(path / unfinished)
        path.mkdir(parents=True, exist_ok=True)
    note.write_text(key, encoding="utf-8")


def _ancestors(stage: Stage) -> Iterator[Stage]:
    names = [s.name for s in STAGES]
    needed: set[str] = set()
    queue = list(stage.parents)
    while queue:
        name = queue.pop()
        needed.add(name)
        queue += STAGE_BY_NAME[name].parents
    yield from (STAGE_BY_NAME[name] for name in names if name in needed)


def _check_ancestors(stage: Stage, recipe: Recipe, folder: RunDir) -> None:
    for ancestor in _ancestors(stage):
        _check_done(ancestor, recipe, folder)


def _check_done(stage: Stage, recipe: Recipe, folder: RunDir) -> None:
    entry = folder.read_manifest()["stages"].get(stage.name)
    remedy = f"Run it with: burnish {stage.name} RECIPE (or all stages with: burnish run RECIPE)"
    if entry is None:
        raise RunError(str(folder.path), f"{stage.name} has not been run here yet.", remedy)
    if entry["key"] != _key(stage, recipe, folder):
        raise RunError(
            str(folder.path),
            f"the inputs or settings of {stage.name} have changed since it was run.",
            remedy,
        )
    if not folder.intact(stage.name, entry["outputs"]):
        raise RunError(
            str(folder.folder(stage.name)), f"files of {stage.name} are missing or changed.", remedy
        )
