"""Trackers: the same names in all of them, offline, and no key in any file."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import subprocess
import sys
from types import SimpleNamespace

import pytest

from burnish.errors import RecipeError
from burnish.training import trackers
from burnish.training.trackers import NAME_FILE, Tracker, check_trackers, open_trackers

LINE = {"step": 3, "epoch": 0.5, "train/loss": 1.5, "learning_rate": 1e-4}


@pytest.fixture
def heard(monkeypatch):
    """What two made-up trackers hear: (which, values, step); and the places that they got."""
    events = []

    class Unreachable(Exception):
        pass

    def tracker(kind):
        def log(values, step):
            if kind == "mlflow" and step == 4:
                raise Unreachable("https://user:secret@host")
            events.append((kind, values, step))

        def make(place):
            events.append((kind, place))
            return Tracker(log, lambda: events.append((kind, "closed")))

        return make

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowException=Unreachable))
    for kind in ("wandb", "mlflow"):
        monkeypatch.setitem(trackers.TRACKERS, kind, tracker(kind))
    return events


def test_every_tracker_gets_every_line_under_its_own_names(tmp_path, heard):
    with open_trackers(["wandb", "mlflow"], tmp_path / "t", tmp_path / "c", {"r": 8}) as send:
        send(LINE)
    values = {"epoch": 0.5, "train/loss": 1.5, "learning_rate": 1e-4}
    assert heard[2:] == [
        ("wandb", values, 3),
        ("mlflow", values, 3),
        ("wandb", "closed"),
        ("mlflow", "closed"),
    ]
    (_, place), (_, other) = heard[:2]
    assert (place.folder, other.folder) == (tmp_path / "t" / "wandb", tmp_path / "t" / "mlflow")
    assert place.settings == {"r": 8}


def test_a_run_keeps_its_name_as_long_as_its_checkpoints_stay(tmp_path, heard):
    folder, checkpoints = tmp_path / "medical" / "trackers", tmp_path / "checkpoints"
    for _ in range(2):
        with open_trackers(["wandb"], folder, checkpoints, {}):
            pass
    first, second = (event[1] for event in heard if event[1] != "closed")
    assert first.name == second.name == (checkpoints / NAME_FILE).read_text()
    assert first.name.startswith("medical-20")
    assert (first.is_new, second.is_new) == (True, False)


def test_a_tracker_that_fails_is_left_out_and_what_it_says_is_not_shown(tmp_path, heard, capfd):
    with open_trackers(["wandb", "mlflow"], tmp_path / "t", tmp_path / "c", {}) as send:
        for step in (3, 4, 5):
            send(LINE | {"step": step})
    steps = [(kind, rest[1]) for kind, *rest in heard if len(rest) == 2]
    assert steps == [("wandb", 3), ("mlflow", 3), ("wandb", 4), ("wandb", 5)]
    said = capfd.readouterr().err
    assert "warning: mlflow failed (Unreachable) and gets nothing more; training goes on" in said
    assert "secret" not in said


def test_a_tracker_that_can_not_be_opened_is_left_out_too(tmp_path, heard, monkeypatch, capfd):
    def refuse(place):
        raise sys.modules["mlflow"].MlflowException("https://user:secret@host")

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", refuse)
    with open_trackers(["mlflow", "wandb"], tmp_path / "t", tmp_path / "c", {}) as send:
        send(LINE)
    assert [kind for kind, *_ in heard] == ["wandb"] * 3
    said = capfd.readouterr().err
    assert "warning: mlflow failed (Unreachable) and gets nothing more" in said
    assert "secret" not in said


def test_a_tracker_whose_database_is_locked_is_left_out(tmp_path, monkeypatch, capfd):
    def log(values, step):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setitem(trackers.TRACKERS, "trackio", lambda place: Tracker(log, lambda: None))
    with open_trackers(["trackio"], tmp_path / "t", tmp_path / "c", {}) as send:
        send(LINE)
    assert "trackio failed (OperationalError)" in capfd.readouterr().err


def test_the_name_of_a_run_is_an_identifier_whatever_its_folder_is_called(tmp_path, heard):
    with open_trackers(["wandb"], tmp_path / "o'brien: 50%#医" / "trackers", tmp_path / "c", {}):
        pass
    assert heard[0][1].name.startswith("o-brien-50-医-20")


def test_trackers_are_closed_after_an_error_too(tmp_path, heard):
    with (
        pytest.raises(KeyboardInterrupt),
        open_trackers(["wandb"], tmp_path / "t", tmp_path / "c", {}),
    ):
        raise KeyboardInterrupt
    assert heard[-1] == ("wandb", "closed")


def test_without_trackers_nothing_is_written(tmp_path):
    with open_trackers([], tmp_path / "t", tmp_path / "c", {}) as send:
        send(LINE)
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(RecipeError, match="the package of trackio is not installed"):
        check_trackers(["trackio"])
    check_trackers([])


def test_wandb_is_told_to_stay_offline_and_to_look_at_no_code(tmp_path, monkeypatch):
    asked = {}

    def init(**settings):
        asked.update(settings)
        return SimpleNamespace(log=None, finish=None)

    fake = SimpleNamespace(init=init, Settings=lambda **settings: settings, Error=ValueError)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    trackers.TRACKERS["wandb"](trackers.Place(tmp_path, "medical-1", {"r": 8}, is_new=True))
    assert (asked["mode"], asked["dir"], asked["id"]) == ("offline", str(tmp_path), "medical-1")
    assert asked["settings"]["disable_git"]
    assert not asked["settings"]["save_code"]
    monkeypatch.setenv("WANDB_MODE", "online")
    trackers.TRACKERS["wandb"](trackers.Place(tmp_path, "medical-1", {"r": 8}, is_new=True))
    assert asked["mode"] == "online"


def test_nested_settings_get_dotted_names():
    assert trackers._flat({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {
        "a.b": "1", "a.c.d": "None", "e": "[1]"
    }  # fmt: skip


SECRET = "s3cr3t-0123456789abcdef0123456789abcdef0"

SCRIPT = """
import sys
from pathlib import Path
from burnish.training.trackers import open_trackers

folder = Path(sys.argv[2])
places = folder / "trackers", folder / "checkpoints"
for steps in ((1, 2, 3), (3, 4)):  # interrupted behind step 2, and taken up again
    with open_trackers([sys.argv[1]], *places, {"r": 8}) as send:
        for step in steps:
            send({"step": step, "epoch": 0.5, "train/loss": 3.0})
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(trackers.TRACKERS))
def test_an_installed_tracker_writes_our_names_into_its_folder_and_no_key(tmp_path, kind):
    pytest.importorskip(kind)
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    keys = ("WANDB_API_KEY", "SWANLAB_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_TOKEN", "MY_SECRET")
    environment = os.environ | dict.fromkeys(keys, SECRET)
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), kind, str(run)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    written = [path for path in (run / "trackers" / kind).rglob("*") if path.is_file()]
    assert any(b"train/loss" in path.read_bytes() for path in written)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in everything if SECRET.encode() in path.read_bytes()]
    assert SECRET.encode() not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "script.py"]
