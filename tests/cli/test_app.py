"""Whatever the command: errors, signals, streams and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.commands import burnish, fails


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_setting(tiny, tmp_path):
    tiny.write_text(tiny.read_text() + "prepare:\n  max_lenght: 3\n")
    assert fails("clean", tiny, folder=tmp_path) == (
        "error: recipe.yaml:8: prepare.max_lenght: there is no such setting. "
        "Did you mean max_length?\n"
    )


def test_a_wrong_type_is_named_with_what_was_found(tiny, tmp_path):
    message = fails("clean", tiny, "--set", "train.learning_rate=high", folder=tmp_path)
    assert message.startswith(
        "error: --set train.learning_rate=high: train.learning_rate: input should be a valid "
        "number; found 'high' (str).\n"
    )


def test_a_missing_recipe_names_the_one_that_was_meant(tiny, tmp_path):
    message = fails("clean", "recipee.yaml", folder=tmp_path)
    assert message == (
        "error: recipee.yaml: there is no such recipe.\n  Did you mean recipe.yaml?\n"
    )


def test_a_missing_data_file_says_where_it_was_looked_for(tiny, tmp_path):
    message = fails("clean", tiny, "--set", "data.sources[0].path=no.csv", folder=tmp_path)
    assert message == (
        f"error: no.csv: there is no such file (looked for {tmp_path}/no.csv).\n"
        "  Paths in a recipe are relative to the folder in which you run burnish.\n"
    )


def test_an_unreadable_encoding_names_the_byte_and_the_line(tiny, tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"instruction,output\na,b\n\xff\xfe\xfa,c\n")
    message = fails("clean", tiny, "--set", "data.sources[0].path=bad.csv", folder=tmp_path)
    assert message.startswith(
        "error: bad.csv:3: most lines of this file are neither UTF-8 nor GB18030"
    )


def test_rows_without_an_answer_column_name_the_columns_that_there_are(tiny, tmp_path):
    (tmp_path / "a.csv").write_text("department,title,ask,answer\na,b,c,d\n")
    message = fails("clean", tiny, "--set", "data.sources[0].path=a.csv", folder=tmp_path)
    assert "a.csv:2: no answer in this row; its columns are department, title, ask, answer." in (
        message
    )


def test_a_model_that_is_not_there_is_said_so(tiny, tmp_path):
    burnish("clean", tiny, folder=tmp_path)
    message = fails("prepare", tiny, "--set", "model.name_or_path=./nowhere", folder=tmp_path)
    assert message.startswith("error: ./nowhere: there is no such folder")


def test_debug_shows_the_trace(tiny, tmp_path):
    done = burnish("train", tiny, "--debug", folder=tmp_path)
    assert "Traceback" in done.stderr


def started_on_many_rows(tiny, folder):
    """A clean command that has begun, in a group of its own as a shell starts it."""
    rows = "".join(f'{{"instruction": "q{i}", "output": "a{i}"}}\n' for i in range(40_000))
    (folder / "many.jsonl").write_text(rows)
    arguments = [sys.executable, "-m", "burnish", "clean", str(tiny)]
    arguments += ["--set", "data.sources[0].path=many.jsonl", "--set", "clean.num_workers=2"]
    work = subprocess.Popen(
        arguments, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert work.stderr.readline() == "clean: started\n"
    return work


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_half_written_stage_and_a_rerun_finishes(tiny, tmp_path, number, code):
    work = started_on_many_rows(tiny, tmp_path)
    work.send_signal(number)
    _, rest = work.communicate(timeout=60)
    assert work.returncode == code
    assert rest.endswith("stopped: what is finished stays, and a rerun goes on from there\n")
    assert "Traceback" not in rest
    left = {p.name for p in (tmp_path / "runs" / "recipe").glob("1-clean/*")}
    assert left <= {".key", "parts"}  # only whole chunks, from which a rerun goes on
    assert burnish("clean", tiny, folder=tmp_path).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
def test_ctrl_c_while_workers_are_loading_shows_no_trace_of_theirs(tiny, tmp_path, seconds):
    work = started_on_many_rows(tiny, tmp_path)
    time.sleep(seconds)
    os.killpg(work.pid, signal.SIGINT)
    _, rest = work.communicate(timeout=60)
    assert work.returncode == 130
    assert rest == "stopped: what is finished stays, and a rerun goes on from there\n"


def under_sh(arguments, folder, tail):
    """A burnish command with what a shell does to its streams."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {tail}', "sh", sys.executable, "-m", "burnish", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_one_message(tiny, tmp_path, options):
    done = under_sh(["clean", str(tiny), *options], tmp_path, ">/dev/full")
    assert done.returncode == 2
    assert done.stderr == (
        "clean: started\nerror: stdout: the operating system says: No space left on device.\n"
        "  Make room on that disk and run it again: what is finished stays.\n"
    )
    assert burnish("clean", tiny, folder=tmp_path).stderr.startswith("clean: unchanged since")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("asked", ["schema", "--version", "--help"])
def test_what_cannot_be_printed_is_one_message_whatever_it_is(tmp_path, asked):
    done = under_sh([asked], tmp_path, ">/dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_closed_stdout_is_told_before_any_work(tiny, tmp_path):
    done = under_sh(["clean", str(tiny)], tmp_path, ">&-")
    assert (done.returncode, done.stderr) == (
        2,
        "error: stdout: it is closed, so there is no place for the report.\n"
        "  Send it to a file, or to /dev/null.\n",
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_stdin_and_stderr_may_be_closed(tiny, tmp_path):
    done = under_sh(["clean", str(tiny), "--json"], tmp_path, "<&- 2>&-")
    assert (done.returncode, json.loads(done.stdout)["num_kept"]) == (0, 40)


def test_a_reader_that_goes_away_gets_no_trace(tmp_path):
    done = under_sh(["schema"], tmp_path, "| head -c 1")
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.skipif(os.name == "nt", reason="limits on files")
def test_a_file_that_grows_too_large_is_one_message_and_a_rerun_finishes(tiny, tmp_path):
    # A limit on the size of files is the full disk that every machine can have.
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    limited += "from burnish.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited, "clean", str(tiny)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"clean: started\nerror: {tmp_path}/runs/recipe/1-clean/parts: the operating system says: "
        "File too large.\n"
    )
    assert burnish("clean", tiny, folder=tmp_path).returncode == 0


def test_a_name_that_is_too_long_is_one_message(tiny, tmp_path):
    name = "a" * 300
    for options in (
        [tiny, "--set", f"run_dir={name}"],
        [tiny, "--set", f"data.sources[0].path={name}.csv"],
        [name],
    ):
        assert "File name too long" in fails("clean", *options, folder=tmp_path)
    assert "File name too long" in fails("new", name, folder=tmp_path)


def test_a_home_that_is_not_there_is_a_missing_file(tiny, tmp_path):
    name = "~nosuchuser/x.csv"
    message = f"error: {name}: there is no such file (looked for {tmp_path}/{name}).\n"
    asked = ["clean", tiny, "--set", f"data.sources[0].path={name}"]
    assert fails(*asked, folder=tmp_path).startswith(message)
    assert fails("audit", name, folder=tmp_path).startswith(message)
    asked = ["clean", tiny, "--set", f"clean.contamination.against=[{name}]"]
    assert fails(*asked, folder=tmp_path).startswith(message)
    burnish("clean", tiny, folder=tmp_path)
    asked = ["prepare", tiny, "--set", "model.name_or_path=~nosuchuser/model"]
    assert "~nosuchuser/model" in fails(*asked, folder=tmp_path)
