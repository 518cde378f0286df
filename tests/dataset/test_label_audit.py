"""The verb, for a run and for data that somebody else prepared."""

from __future__ import annotations

import datasets
import pytest

from burnish.dataset.label_audit import audit_run, audit_saved, refuse_errors
from burnish.errors import DataError, RecipeError
from burnish.pipeline import run_stage
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from tests.labels.sets import masked, others, plain_rows


def test_a_runs_own_examples_are_audited_as_prepare_did(tiny_recipe, tmp_path):
    run_stage("clean", tiny_recipe)
    report = run_stage("prepare", tiny_recipe)
    run = RunDir(tiny_recipe.run_dir)
    recipe = tiny_recipe.recipe
    found = audit_run(recipe.model, recipe.prepare, run, tmp_path / "x.html")
    assert found.num_examples == report["num_examples"]
    assert found.num_tokens == sum(report["num_tokens"].values())
    assert found.num_supervised == sum(report["num_supervised_tokens"].values())
    assert found.findings == []
    assert report["findings"] == {}
    assert (tmp_path / "x.html").is_file()
    refuse_errors(found)


def saved(rows, folder):
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    return folder


def test_a_folder_of_somebody_elses_is_audited_with_the_model_that_is_named(tmp_path, tiny_model):
    rows = [masked(row, -1) for row in others(plain_rows())]
    report = audit_saved(saved(rows, tmp_path / "set"), str(tiny_model), None)
    assert [(f.name, f.count) for f in report.findings] == [("masked_stop_token", 10)]
    assert report.findings[0].first[0] == "row 1"
    with pytest.raises(DataError, match="masked_stop_token in 10 rows, first row 1"):
        refuse_errors(report)


def test_without_a_model_there_is_no_telling_what_tokens_mean(tmp_path):
    with pytest.raises(RecipeError, match="which tokenizer") as caught:
        audit_saved(saved(others(plain_rows()), tmp_path / "set"), None, None)
    assert caught.value.remedy == "Name the model: --model NAME"


def test_a_finding_that_there_is_none_of_can_not_be_allowed(tiny_recipe, tmp_path):
    run_stage("clean", tiny_recipe)
    options = [f"run_dir={tiny_recipe.run_dir}", "prepare.allow_findings=[nothing]"]
    with pytest.raises(RecipeError, match="no finding 'nothing'"):
        run_stage("prepare", load_recipe(tmp_path / "recipe.yaml", options))
