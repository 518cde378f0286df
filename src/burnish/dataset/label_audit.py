"""The audit-labels verb: a run's prepared examples, or a data set that somebody else prepared."""

from __future__ import annotations

from pathlib import Path

from burnish.dataset.split import SPLITS
from burnish.errors import DataError, RecipeError
from burnish.labels.audit import audit_labels
from burnish.labels.report import LabelReport
from burnish.labels.rows import open_splits
from burnish.labels.verdict import first_error
from burnish.models.names import find_model
from burnish.recipe import ModelSection, PrepareSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir


def audit_run(
    model: ModelSection, section: PrepareSection, run: RunDir, page: Path | None
) -> LabelReport:
    """The audit of a run's prepared examples, made anew."""
    splits = {name: open_splits(run.split(name))[""] for name in SPLITS}
    return audit_labels(
        splits,
        load_tokenizer(run.tokenizer, model),
        find_model(model, weights=False),
        str(run.folder("prepare")),
        page=page,
        allowed=section.allow_findings,
    )


def audit_saved(folder: Path, model: str | None, page: Path | None) -> LabelReport:
    """The audit of a folder that `save_to_disk` wrote.

    Raises:
        RecipeError: no model is named.
        DataError: it is no such folder, or has no input_ids and labels.
    """
    splits = open_splits(folder)
    if model is None:
        raise RecipeError(
            str(folder),
            "tokens alone do not say which tokenizer made them.",
            "Name the model: --model NAME",
        )
    section = ModelSection(name_or_path=model)
    found = find_model(section, weights=False)
    return audit_labels(splits, load_tokenizer(found, section), found, str(folder), page=page)


def refuse_errors(report: LabelReport) -> None:
    """Ends with the first error of a report, if there is one.

    Raises:
        DataError: names it with its remedy.
    """
    errors = [finding for finding in report.findings if finding.level == "error"]
    if errors:
        raise DataError(report.target, *first_error(errors))
