"""One rank: how each way of ending is noted."""

from __future__ import annotations

import logging
import os
import warnings

import pytest

from burnish import progress
from burnish.errors import TrainingError
from burnish.recipe import ModelSection, TrainSection
from burnish.training import train as stage
from burnish.training.launch.job import Job, read_notes
from burnish.training.launch.rank import let_first_speak, run_rank
from burnish.training.train import TrainReport

REPORT = TrainReport.model_construct(steps=3, adapter="a")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job whose stage function the test replaces; this process is rank 1, but joins nobody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("burnish.training.ranks.join", lambda: None)
    monkeypatch.setattr(progress.stderr, "quiet", False)
    (tmp_path / "job").mkdir()
    return Job(ModelSection(), TrainSection(), tmp_path / "run", tmp_path, tmp_path / "job")


def ending(monkeypatch, job, how):
    def train(model, section, run):
        if isinstance(how, BaseException):
            raise how
        return how

    monkeypatch.setattr(stage, "train", train)
    return run_rank(job)


def test_a_rank_that_ends_well_leaves_its_report(monkeypatch, job):
    assert ending(monkeypatch, job, REPORT) == 0
    (note,) = read_notes(job.folder)
    assert (note.rank, note.error, note.is_lost) == (1, None, False)
    assert (note.report["steps"], note.report["adapter"]) == (3, "a")


@pytest.mark.parametrize("number", ["0", "1"])
def test_every_rank_but_the_first_is_silent(monkeypatch, capfd, job, number):
    monkeypatch.setenv("RANK", number)
    with warnings.catch_warnings():
        let_first_speak()
        progress.say("said")
        progress.warn("warned")
        logging.getLogger("some.library").warning("logged")
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
    logging.disable(logging.NOTSET)
    said = capfd.readouterr().err
    assert ("said" in said, "warned" in said) == (number == "0", number == "0")
    assert "deprecated" not in said


def test_it_works_where_the_launching_process_does(monkeypatch, job, tmp_path):
    monkeypatch.chdir("/")
    ending(monkeypatch, job, REPORT)
    assert os.getcwd() == str(tmp_path)


@pytest.mark.parametrize(
    "how, code, noted",
    [
        (TrainingError("step 1", "no.", "Try."), 2, {"error": ("step 1", "no.", "Try.")}),
        (SystemExit(75), 75, {"exit_code": 75}),
        (KeyboardInterrupt(), 130, {"exit_code": 130}),
        (RuntimeError("gloo: Connection closed by peer"), 1, {"is_lost": True}),
    ],
    ids=str,
)
def test_every_way_of_ending_is_noted(monkeypatch, job, how, code, noted):
    assert ending(monkeypatch, job, how) == code
    (note,) = read_notes(job.folder)
    assert {name: getattr(note, name) for name in noted} == noted
    assert note.report is None


def test_a_full_disk_is_noted_as_a_refusal(monkeypatch, job):
    assert ending(monkeypatch, job, OSError(28, "No space left on device", "x.pt")) == 2
    (note,) = read_notes(job.folder)
    assert note.error[0] == "x.pt"
    assert "No space left on device" in note.error[1]


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_a_mistake_of_ours_is_noted_and_keeps_its_trace(monkeypatch, job, kind):
    with pytest.raises(kind, match="shapes"):
        ending(monkeypatch, job, kind("shapes differ\nmore"))
    (note,) = read_notes(job.folder)
    assert note.error == ("train", f"{kind.__name__}: shapes differ", "Its trace stands above.")
