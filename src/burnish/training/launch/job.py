"""What the ranks of a run are told, and how each says that it has ended: files in one folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError
from burnish.recipe import ModelSection, TrainSection
from burnish.run_dir import write_json

JOB_NAME = "job.json"


@dataclass(frozen=True, slots=True)
class Job:
    """The arguments of the stage, for processes that start afresh.

    Attributes:
        model: the recipe's section.
        section: the recipe's section.
        run: the run folder.
        working_directory: what paths in the recipe are relative to.
        folder: where the ranks leave their notes.
    """

    model: ModelSection
    section: TrainSection
    run: Path
    working_directory: Path
    folder: Path

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return self.folder / JOB_NAME

    def write(self) -> None:
        """Writes the file."""
        sections = {"model": self.model, "train": self.section}
        places = {"run": self.run, "working_directory": self.working_directory}
        write_json(
            self.path,
            {name: section.model_dump(mode="json") for name, section in sections.items()}
            | {name: str(place.absolute()) for name, place in places.items()},
        )


def read_job(path: Path) -> Job:
    """The job in a file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Job(
        model=ModelSection.model_validate_json(json.dumps(values["model"])),
        section=TrainSection.model_validate_json(json.dumps(values["train"])),
        run=Path(values["run"]),
        working_directory=Path(values["working_directory"]),
        folder=path.parent,
    )


@dataclass(frozen=True, slots=True)
class Note:
    """How a rank has ended.

    Attributes:
        rank: its number.
        time: when, in seconds since 1970.
        report: of the stage, where it ended well.
        error: where, problem and remedy of what stopped it.
        exit_code: of a rank that was stopped from outside.
        is_lost: it only lost the connection to the others, so the cause is elsewhere.
        said: what it was told of that.
    """

    rank: int
    time: float
    report: dict[str, Any] | None = None
    error: tuple[str, str, str] | None = None
    exit_code: int | None = None
    is_lost: bool = False
    said: str = ""


def leave_note(folder: Path, rank: int, **how: Any) -> None:
    """Says how a rank has ended."""
    write_json(folder / f"rank-{rank}.json", {"rank": rank, "time": time.time(), **how})


def read_notes(folder: Path) -> list[Note]:
    """The notes of the ranks that have ended, the earliest first."""
    return sorted(_notes(folder), key=lambda note: note.time)


def forget_notes(folder: Path) -> None:
    """Takes the notes away, before the ranks start again."""
    for path in folder.glob("rank-*.json"):
        path.unlink()


def _notes(folder: Path) -> Iterator[Note]:
    for path in folder.glob("rank-*.json"):
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("error"):
            values["error"] = tuple(values["error"])
        yield Note(**values)


def parts_of(error: BurnishError) -> tuple[str, str, str]:
    """An error as a note keeps it."""
    return error.where, error.problem, error.remedy
