"""What ranks are told and what they leave behind."""

from __future__ import annotations

from pathlib import Path

from burnish.errors import TrainingError
from burnish.recipe import LoraSettings, ModelSection, TrainSection
from burnish.training.launch.job import (
    Job,
    Note,
    forget_notes,
    leave_note,
    parts_of,
    read_job,
    read_notes,
)


def test_a_job_comes_out_of_its_file_as_it_was(tmp_path):
    job = Job(
        ModelSection(name_or_path="some/model"),
        TrainSection(learning_rate=3e-4, report_to=["wandb"], lora=LoraSettings(r=3)),
        run=tmp_path / "run",
        working_directory=tmp_path,
        folder=tmp_path / "job",
    )
    job.write()
    assert read_job(job.path) == job


def test_relative_places_are_absolute_in_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(ModelSection(), TrainSection(), Path("run"), Path(), tmp_path / "job")
    job.write()
    read = read_job(job.path)
    assert (read.run, read.working_directory) == (tmp_path / "run", tmp_path)


def test_notes_come_in_the_order_in_which_they_were_left(tmp_path):
    error = parts_of(TrainingError("step 3", "the loss is nan.", "Lower it."))
    leave_note(tmp_path, 1, error=error)
    leave_note(tmp_path, 0, is_lost=True)
    leave_note(tmp_path, 2, report={"steps": 3})
    leave_note(tmp_path, 3, exit_code=75)
    notes = read_notes(tmp_path)
    times = [note.time for note in notes]
    assert times == sorted(times)
    assert notes == [
        Note(1, times[0], error=("step 3", "the loss is nan.", "Lower it.")),
        Note(0, times[1], is_lost=True),
        Note(2, times[2], report={"steps": 3}),
        Note(3, times[3], exit_code=75),
    ]


def test_notes_are_gone_once_they_are_forgotten(tmp_path):
    leave_note(tmp_path, 0, is_lost=True)
    forget_notes(tmp_path)
    assert read_notes(tmp_path) == []


def test_before_any_rank_has_ended_there_are_no_notes(tmp_path):
    assert read_notes(tmp_path) == []
