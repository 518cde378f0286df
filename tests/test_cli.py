"""The commands as a person types them: reports, errors and exit codes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest

from tests.conftest import write_recipe


def burnish(*arguments, folder, text=None):
    return subprocess.run(
        [sys.executable, "-m", "burnish", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        input=text,
        check=False,
    )


@pytest.fixture
def tiny(tmp_path, tiny_model):
    """The path of a recipe on the tiny model, cleaned and prepared nowhere yet."""
    return write_recipe(
        tmp_path,
        "data: {{sources: [{{path: {data}}}]}}\n"
        f"model: {{{{name_or_path: {tiny_model}}}}}\n"
        "train: {{max_steps: 2, logging_steps: 1, lora: {{r: 2}}}}\n"
        "evaluate: {{num_answers: 1, max_new_tokens: 4}}\n"
        "quantize: {{group_size: 32, num_samples: 4}}\n"
        "serve: {{temperature: 0, max_new_tokens: 6}}\n",
    )


def fails(*arguments, folder):
    """The message of a command that must end with exit code 2 and no trace."""
    done = burnish(*arguments, folder=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return done.stderr[done.stderr.index("error: ") :]


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


def test_a_port_in_use_is_an_error_before_the_model_is_loaded(tiny, tmp_path):
    done = burnish("run", tiny, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = fails("serve", tiny, "--set", f"serve.port={port}", folder=tmp_path)
    assert message.startswith(f"error: 127.0.0.1:{port}: the server can't listen there: ")
    assert f"--set serve.port={port + 1}" in message


def test_a_stage_before_its_parent_says_what_to_run_first(tiny, tmp_path):
    message = fails("train", tiny, folder=tmp_path)
    assert "clean has not been run here yet." in message
    assert "burnish run RECIPE" in message


def test_debug_shows_the_trace(tiny, tmp_path):
    done = burnish("train", tiny, "--debug", folder=tmp_path)
    assert "Traceback" in done.stderr


def test_ctrl_c_leaves_no_half_written_stage_and_a_rerun_finishes(tiny, tmp_path):
    rows = "".join(f'{{"instruction": "q{i}", "output": "a{i}"}}\n' for i in range(400_000))
    (tmp_path / "many.jsonl").write_text(rows)
    arguments = [sys.executable, "-m", "burnish", "clean", str(tiny)]
    arguments += ["--set", "data.sources[0].path=many.jsonl"]
    work = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert work.stderr.readline() == "clean: started\n"
    work.send_signal(signal.SIGINT)
    _, rest = work.communicate(timeout=60)
    assert work.returncode == 130
    assert rest.endswith("stopped: what is finished stays, and a rerun goes on from there\n")
    assert "Traceback" not in rest
    left = {p.name for p in (tmp_path / "runs" / "recipe").glob("1-clean/*")}
    assert left <= {".key", "parts"}  # only whole chunks, from which a rerun goes on
    assert burnish("clean", tiny, folder=tmp_path).returncode == 0
