"""Whether training may start on what prepare wrote, by its audit of the labels."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import ValidationError

from burnish.errors import RunError, TrainingError
from burnish.labels.audit import AUDIT_NAME, PAGE_NAME, audit_labels
from burnish.labels.report import Finding, LabelReport
from burnish.labels.rows import open_splits
from burnish.models.names import find_model
from burnish.recipe import LoraSettings, ModelSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")


def check_audit(
    run: RunDir, model: ModelSection, lora: LoraSettings, *, all_learns: bool = False
) -> None:
    """Refuses to train on examples in which the audit found errors.

    Where prepare had no weights to tell untrained tokens by, the training rows are looked over
    again: the weights are here now.

    Raises:
        RunError: prepare wrote no audit.
        TrainingError: names the first error with its remedy.
    """
    report = _read(run)
    findings = report.findings
    if not report.embedding_checked:
        findings = [*findings, *_untrained(run, model, report)]
    errors = [f for f in findings if f.level == "error"]
    if all_learns or any(name in lora.target_modules for name in _EMBEDDINGS):
        errors = [f for f in errors if f.name != "untrained_token"]
    if errors:
        problem, remedy = first_error(errors)
        raise TrainingError(
            str(run.folder("prepare") / PAGE_NAME),
            problem,
            f"{remedy}\n  To let it pass: prepare.allow_findings: [{errors[0].name}]",
        )


def first_error(errors: Sequence[Finding]) -> tuple[str, str]:
    """What is wrong in words, by the first of some errors, and what to do about it."""
    first, *others = errors
    more = f" (and {len(others)} more: {', '.join(f.name for f in others)})" if others else ""
    rows = f" in {first.count:,} rows, first {first.first[0]}" if first.first else ""
    return f"{first.name}{rows}: {first.what}{more}", first.remedy


def _read(run: RunDir) -> LabelReport:
    path = run.folder("prepare") / AUDIT_NAME
    try:
        return LabelReport.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, ValidationError):
        raise RunError(
            str(path),
            "there is no audit of the labels here.",
            "Run it with: burnish prepare RECIPE --force",
        ) from None


def _untrained(run: RunDir, model: ModelSection, report: LabelReport) -> list[Finding]:
    again = audit_labels(
        open_splits(run.split("train")),
        load_tokenizer(run.tokenizer, model),
        find_model(model),
        report.target,
        allowed=report.allowed,
    )
    return [f for f in again.findings if f.name == "untrained_token"]
