"""Trials: their names, their settings, and the processes that they train in."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from burnish.recipe_file import load_recipe
from burnish.sweeping.trials import Trial, folder_name, in_own_process


def test_names_of_folders_are_readable_and_distinct():
    names = [
        folder_name({"train.lora.r": 8, "train.learning_rate": 1e-4}),
        folder_name({"model.name_or_path": "a/b"}),
        folder_name({"model.name_or_path": "a:b"}),
        folder_name({"train.report_to": ["x" * 200]}),
        folder_name({"train.seed": 1}),
        folder_name({"prepare.seed": 1}),
        folder_name({"data.sources[0].weight": 2.0}),
        folder_name({"data.sources[1].weight": 2.0}),
    ]
    assert names[0] == "r=8,learning_rate=0.0001"
    assert names[4] == "train.seed=1"
    assert len(set(names)) == 8
    assert all("/" not in name and len(name) < 80 for name in names)


def test_the_settings_of_a_trial_are_read_back_as_they_were(recipe, tmp_path):
    settings = {
        "train.learning_rate": 1e-5,
        "train.lora.target_modules": ["q_proj", "v_proj"],
        "data.system_prompt": '😀 "a", b',
    }
    loaded = load_recipe(recipe, Trial(settings, tmp_path / "a 𠮷").overrides)
    assert loaded.recipe.train.learning_rate == 1e-5
    assert loaded.recipe.train.lora.target_modules == ["q_proj", "v_proj"]
    assert loaded.recipe.data.system_prompt == '😀 "a", b'
    assert loaded.run_dir == tmp_path / "a 𠮷"


FAILS = "import sys; sys.exit('at work\\nerror: raw.csv:3: no.\\n  Try another.')"
STOPS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_the_error_of_a_process_is_told_and_known(capfd):
    code, out, error = in_own_process([sys.executable, "-c", FAILS])
    assert (code, out, error) == (1, "", "raw.csv:3: no.\n  Try another.\n")
    assert capfd.readouterr().err.startswith("at work\nerror: raw.csv:3")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_lets_its_trial_save(number):
    script = (
        "import signal, sys; from burnish.exits import run_command; "
        "from burnish.sweeping.trials import in_own_process; "
        f"run_command(lambda: in_own_process([sys.executable, '-c', {STOPS!r}]), debug=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(30) == 75
