"""Training starts where the audit found no errors, or none that the recipe does not let pass."""

from __future__ import annotations

import json

import datasets
import pytest

from burnish.errors import RunError, TrainingError
from burnish.labels.audit import AUDIT_NAME, PAGE_NAME, audit_prepared
from burnish.labels.verdict import check_audit, first_error
from burnish.recipe import LoraSettings, ModelSection
from burnish.run_dir import RunDir
from tests.conftest import byte_tokenizer
from tests.labels.sets import audited, masked, model_files, plain_rows, with_tokens
from tests.labels.test_findings import weights

LORA, MODEL = LoraSettings(), ModelSection()


@pytest.fixture(autouse=True)
def _the_model(tmp_path, monkeypatch):
    """The model that training finds: the one that prepare saw."""
    monkeypatch.setattr("burnish.labels.verdict.find_model", lambda section: tmp_path / "model")


def prepared(path, rows, allowed=()):
    run = RunDir(path / "run")
    datasets.Dataset.from_list(rows).save_to_disk(str(run.split("train")))
    folder = model_files(path / "model")
    byte_tokenizer().save_pretrained(str(run.tokenizer))
    prepare = run.folder("prepare")
    return run, audit_prepared(prepare, byte_tokenizer(), folder, ["train"], allowed)


def test_training_may_start_where_the_audit_found_nothing(tmp_path):
    run, report = prepared(tmp_path, plain_rows())
    assert (report.num_errors, report.num_warnings) == (0, 0)
    assert json.loads((run.folder("prepare") / AUDIT_NAME).read_text())["page"] == PAGE_NAME
    check_audit(run, MODEL, LORA)


def test_training_is_refused_where_it_found_errors_and_both_files_are_there(tmp_path):
    run, report = prepared(tmp_path, [masked(row, -1) for row in plain_rows()])
    assert report.num_errors == 1
    with pytest.raises(TrainingError) as caught:
        check_audit(run, MODEL, LORA)
    assert caught.value.where == str(run.folder("prepare") / PAGE_NAME)
    assert "masked_stop_token in 10 rows, first data.jsonl:1" in caught.value.problem
    assert "prepare.allow_findings: [masked_stop_token]" in caught.value.remedy
    assert (run.folder("prepare") / PAGE_NAME).is_file()


def test_a_finding_that_is_allowed_lets_training_start_and_stays_in_the_report(tmp_path):
    rows = [masked(row, -1) for row in plain_rows()]
    run, report = prepared(tmp_path, rows, allowed=["masked_stop_token"])
    assert [(f.name, f.level) for f in report.findings] == [("masked_stop_token", "allowed")]
    assert (report.num_errors, report.num_warnings) == (0, 0)
    check_audit(run, MODEL, LORA)


def test_a_run_without_an_audit_is_refused(tmp_path):
    with pytest.raises(RunError, match="no audit of the labels"):
        check_audit(RunDir(tmp_path), MODEL, LORA)


def test_untrained_tokens_are_no_error_where_the_embedding_is_trained(tmp_path):
    run, report = prepared(tmp_path, [masked(row, -1) for row in plain_rows()])
    path = run.folder("prepare") / AUDIT_NAME
    finding = report.findings[0].model_copy(update={"name": "untrained_token"})
    path.write_text(report.model_copy(update={"findings": [finding]}).model_dump_json())
    with pytest.raises(TrainingError, match="untrained_token"):
        check_audit(run, MODEL, LORA)
    check_audit(run, MODEL, LoraSettings(target_modules=["q_proj", "embed_tokens"]))
    check_audit(run, MODEL, LORA, all_learns=True)


def test_tokens_that_were_never_trained_are_found_once_the_weights_are_there(tmp_path):
    rows = [with_tokens(row, 20, [0]) for row in plain_rows()]
    for allowed in ([], ["untrained_token"]):
        run, report = prepared(tmp_path, rows, allowed)
        assert (report.embedding_checked, report.findings) == (False, [])
        check_audit(run, MODEL, LORA)
        weights(tmp_path / "model", tokens=0, row=lambda known: known[:0], zero=[0])
        if allowed:
            check_audit(run, MODEL, LORA)
        else:
            with pytest.raises(TrainingError, match="untrained_token in 10 rows"):
                check_audit(run, MODEL, LORA)
        (tmp_path / "model" / "model.safetensors").unlink()


def test_of_several_errors_the_first_is_told_and_the_others_named():
    rows = [masked(row, -1) for row in plain_rows()]
    rows[0] = with_tokens(rows[0], 0, [1])
    errors = audited(rows).findings
    problem, remedy = first_error(errors)
    assert problem.endswith("(and 1 more: double_bos)")
    assert remedy == errors[0].remedy
