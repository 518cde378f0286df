"""What an audit is asked to look at: a recipe, or data that a recipe is made for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from burnish.auditing.report import SourceLook
from burnish.authoring import first_records, guess_columns
from burnish.cleaning.detection import NUM_LOOKED_AT, common_layout, layout_of
from burnish.conversation import Record
from burnish.errors import RunError
from burnish.reading.files import read_records
from burnish.recipe import Columns, DataSection, Recipe, Source
from burnish.recipe_file import RECIPE_NAME, dump_recipe, load_recipe
from burnish.run_dir import FOLDERS, write_text


def recipe_of(target: str, overrides: Sequence[str], scratch: Path) -> Recipe:
    """The recipe that is named, or one that reads the data that is named.

    Args:
        target: a data file, folder, pattern or hub name; a recipe or a run folder.
        overrides: `section.key=value`; they count for data, too.
        scratch: a folder to write to.

    Raises:
        RecipeError: a fault of the recipe or of an override.
        DataError: the data can't be read, or no column looks like a question or an answer.
        RunError: it is a run folder in which no stage was finished.
    """
    path = Path(os.path.expanduser(target))
    if path.suffix.lower() in (".yaml", ".yml") or (path / RECIPE_NAME).is_file():
        return load_recipe(path, overrides).recipe
    if any((path / folder).is_dir() for folder in FOLDERS.values()):
        raise _unfinished(path)
    columns = None
    if not any(override.startswith("data.") for override in overrides):
        columns = _guessed_columns(target)
    source = Source(path=target, columns=columns)
    written = scratch / RECIPE_NAME
    write_text(written, dump_recipe(Recipe(data=DataSection(sources=[source]))))
    return load_recipe(written, overrides).recipe


def _unfinished(folder: Path) -> RunError:
    return RunError(
        str(folder),
        "this is the folder of a run of which no stage is finished, so its recipe is not in it.",
        "Look at the data by the recipe, burnish audit RECIPE.yaml, or finish the stage first: "
        "burnish clean RECIPE.yaml",
    )


def _say_nothing(_: str) -> None:
    """Takes the remarks of a look at rows that are read again, when all of it is said."""


def _guessed_columns(target: str) -> Columns | None:
    """The columns that hold question and answer, where no layout says so."""
    records = first_records(target, _say_nothing)
    return None if common_layout(records) else Columns(**guess_columns(records))


def look_at(source: Source, data: DataSection, num_rows: int) -> SourceLook:
    """How a source is read, and how many rows came of it."""
    columns = source.columns.model_dump(exclude_none=True) if source.columns else {}
    return SourceLook(
        layout=_layout(source, data),
        columns={
            part: names if isinstance(names, str) else " + ".join(names)
            for part, names in columns.items()
        },
        num_rows=num_rows,
    )


def _layout(source: Source, data: DataSection) -> str:
    """The layout of a source's first readable rows; a folder may hold others."""
    if source.columns is not None and not source.columns.text:
        return "columns"
    rows = read_records(source, max_unpacked_gib=data.max_unpacked_gib, tell=_say_nothing)
    first = [row for row in itertools.islice(rows, NUM_LOOKED_AT) if isinstance(row, Record)]
    return layout_of(source, first) if first else source.layout
