import subprocess

import pytest

from burnish.errors import ModelError
from burnish.templates import limits
from burnish.templates.limits import check_template
from tests.conftest import CHATML


def test_a_usual_template_passes():
    check_template(CHATML, {"eos_token": "</s>"}, "model")


def test_a_template_that_fills_the_memory_is_refused():
    with pytest.raises(ModelError) as caught:
        check_template("{{ 'a' * 10**9 }}", {}, "models/evil")
    assert caught.value.where == "models/evil"
    assert "more than 512 MiB of memory" in caught.value.problem
    assert "model.chat_template: plain_en" in caught.value.remedy


def test_a_template_that_does_not_end_is_refused():
    rows = "{% for a in range(99999) %}"
    endless = f"{rows}{rows}{{% endfor %}}{{% endfor %}}"
    with pytest.raises(ModelError, match="takes more than 2 s"):
        check_template(endless, {}, "models/evil")


def test_a_template_is_tried_out_once_in_a_process(monkeypatch):
    started = []

    def run(*arguments, **options):
        started.append(arguments)
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(limits.subprocess, "run", run)
    check_template("only here", {"eos_token": "a"}, "one")
    check_template("only here", {"eos_token": "a"}, "two")
    assert len(started) == 1
    check_template("only here", {"eos_token": "b"}, "two")
    assert len(started) == 2


def test_a_process_that_hangs_is_given_up(monkeypatch):
    def run(*arguments, **options):
        raise subprocess.TimeoutExpired(arguments, options["timeout"])

    monkeypatch.setattr(limits.subprocess, "run", run)
    with pytest.raises(ModelError, match="takes more than 30 s"):
        check_template("hangs here", {}, "model")


@pytest.mark.parametrize("signal, what", [(-11, "512 MiB"), (-9, "2 s"), (-24, "2 s")])
def test_a_process_that_was_killed_says_by_what(monkeypatch, signal, what):
    monkeypatch.setattr(
        limits.subprocess, "run", lambda *a, **o: subprocess.CompletedProcess(a, signal)
    )
    with pytest.raises(ModelError, match=what):
        check_template(f"killed by {signal}", {}, "model")
