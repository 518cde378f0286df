"""Commands that run stages: their reports."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import burnish, fails


def test_clean_with_json_prints_one_object_on_stdout_and_the_rest_on_stderr(tiny, tmp_path):
    done = burnish("clean", tiny, "--json", folder=tmp_path)
    report = json.loads(done.stdout)
    assert (report["num_read"], report["num_kept"], report["num_rejected"]) == (40, 40, {})
    assert "clean: started" in done.stderr


def test_run_reports_every_stage_and_a_second_run_prints_the_same(tiny, tmp_path):
    first = burnish("run", tiny, "--json", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert {"train/loss", "validation/loss", "supervised_tokens"} <= set(report["train"])
    assert report["evaluate"]["benchmarks"] == {}
    assert json.loads(burnish("run", tiny, "--json", folder=tmp_path).stdout) == report
    asked = burnish("chat", tiny, "-m", "Question 1?", "--json", folder=tmp_path)
    assert set(json.loads(asked.stdout)) == {"answer", "messages"}
    typed = burnish("chat", tiny, folder=tmp_path, text="Question 1?\n")
    assert typed.stdout.rstrip("\n") == json.loads(asked.stdout)["answer"].rstrip("\n")


def test_a_stage_before_its_parent_says_what_to_run_first(tiny, tmp_path):
    message = fails("train", tiny, folder=tmp_path)
    assert "clean has not been run here yet." in message
    assert "burnish run RECIPE" in message


@pytest.mark.parametrize("verb", ["train", "run"])
def test_options_of_several_processes_need_an_engine(tiny, tmp_path, verb):
    message = fails(verb, tiny, "--processes", "2", folder=tmp_path)
    assert message.startswith("error: --launch: it says what starts several processes")


def test_an_unknown_engine_is_told_before_training(tiny, tmp_path):
    for stage in ("clean", "prepare"):
        burnish(stage, tiny, folder=tmp_path)
    message = fails("train", tiny, "--launch", "mpi", "--processes", "2", folder=tmp_path)
    assert message.startswith("error: --launch: mpi is unknown.")


@pytest.mark.parametrize("verb", ["train", "run"])
def test_options_of_several_processes_are_checked_before_an_old_result_is_cleared(
    tiny, tmp_path, verb
):
    kept = tmp_path / "run" / "3-train" / "adapter" / "adapter_model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.touch()
    wrong = ("--launch", "torchrun", "--processes", "2", "--strategy", "fsdp2", "--force")
    message = fails(verb, tiny, *wrong, folder=tmp_path)
    assert message.startswith("error: --strategy: torchrun has no fsdp2")
    assert kept.is_file()
    assert not (tmp_path / "run" / "1-clean").exists()


@pytest.mark.slow
def test_two_processes_report_what_one_does(tiny, tmp_path):
    for stage in ("clean", "prepare"):
        burnish(stage, tiny, folder=tmp_path)
    launch = ("--launch", "torchrun", "--processes", "2", "--json")
    done = burnish("train", tiny, *launch, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] == 2
    assert "training in 2 processes (torchrun, ddp)" in done.stderr
    assert done.stderr.count("step 2/2: train/loss") == 1
    again = burnish("train", tiny, "--json", folder=tmp_path)
    assert json.loads(again.stdout) == report
