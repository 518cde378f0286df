"""The audit of labels: every prepared example looked over; a report, a page, and a verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import DataError, RunError
from burnish.labels.examples import pick_examples
from burnish.labels.findings import FINDINGS, cut
from burnish.labels.model_files import MODEL_FINDINGS, MODEL_REMEDIES
from burnish.labels.page import render_page
from burnish.labels.report import Finding, LabelReport
from burnish.labels.rows import Ints, open_splits, origin_of
from burnish.labels.tally import Hits, Tally, tally
from burnish.labels.vocabulary import Vocabulary, look_at_tokens
from burnish.lengths import covering_length, histogram, percentiles
from burnish.run_dir import write_json, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AUDIT_NAME = "audit.json"
PAGE_NAME = "audit.html"

_NUM_TOKENS_NAMED = 5


def audit_labels(
    splits: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    model_folder: Path | None,
    target: str,
    *,
    page: Path | None = None,
    allowed: Collection[str] = (),
) -> LabelReport:
    """What carries loss in a set, and what is wrong with it.

    Args:
        splits: data sets with input_ids and labels, by name.
        tokenizer: the one that they were made with.
        model_folder: where config.json, generation_config.json and weights lie, if any.
        target: what is looked at, for the report.
        page: an HTML page to write.
        allowed: findings that are no errors here.

    Raises:
        DataError: there are no rows, or a column holds something else than lists of integers.
        RunError: the page can't be written there.
    """
    vocabulary = look_at_tokens(tokenizer, model_folder)
    seen = tally(splits, vocabulary)
    if not len(seen.table.lengths):
        raise DataError(target, "there is no row in this set.", "Check that it is the right one.")
    report = _report(seen, vocabulary, splits, target, allowed)
    if page is None:
        return report
    report = report.model_copy(update={"page": str(page)})
    chosen = pick_examples(seen, splits)
    try:
        write_text(page, render_page(report, histogram(seen.table.lengths), chosen, tokenizer))
    except OSError as error:
        problem = f"the page can't be written ({error.strerror})."
        raise RunError(str(page), problem, "Choose another file: --html NAME.html") from None
    return report


def audit_prepared(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    model_folder: Path,
    splits: Collection[str],
    allowed: Collection[str],
) -> LabelReport:
    """Audits the splits in prepare's folder, and writes audit.json and audit.html there."""
    opened = {name: open_splits(folder / name)[""] for name in splits}
    report = audit_labels(
        opened, tokenizer, model_folder, "2-prepare", page=folder / PAGE_NAME, allowed=allowed
    )
    report = report.model_copy(update={"page": PAGE_NAME})
    write_json(folder / AUDIT_NAME, report.model_dump())
    return report


def _report(
    seen: Tally,
    known: Vocabulary,
    splits: Mapping[str, Any],
    target: str,
    allowed: Collection[str],
) -> LabelReport:
    table, was_cut = seen.table, cut(seen.table)
    whole = table.lengths if table.num_cut is None else table.lengths + table.num_cut
    findings = _findings(seen, known, splits, allowed)
    num_tokens, num_supervised = int(table.lengths.sum()), int(table.supervised.sum())
    return LabelReport(
        target=target,
        page=None,
        num_errors=sum(f.level == "error" for f in findings),
        num_warnings=sum(f.level == "warning" for f in findings),
        findings=findings,
        num_examples={name or "all": count for name, count in seen.num_rows.items()},
        num_tokens=num_tokens,
        num_supervised=num_supervised,
        supervised_share=round(num_supervised / max(num_tokens, 1), 4),
        num_without_supervised=int((table.supervised == 0).sum()),
        num_answers=seen.num_answers,
        num_with_stop_token=seen.num_stopped,
        num_cut=int(was_cut.sum()),
        cut_tokens=percentiles(table.num_cut[was_cut]) if table.num_cut is not None else {},
        lengths=percentiles(table.lengths),
        supervised_lengths=percentiles(table.supervised),
        embedding_checked=known.embedding_checked,
        allowed=sorted(allowed),
        advice=_advice(whole, is_whole=table.num_cut is not None or not was_cut.any()),
        stop_tokens=[known.name_of(token) for token in sorted(known.stops)],
        special_tokens={
            file: {kind: [known.name_of(i) for i in ids] for kind, ids in kinds.items()}
            for file, kinds in known.special.items()
        },
    )


def _advice(whole: Ints, *, is_whole: bool) -> str:
    text = f"prepare.max_length: {covering_length(whole)} covers 99 % of the rows"
    return text if is_whole else f"{text} as they are; how long the cut ones were is not known"


def _findings(
    seen: Tally, known: Vocabulary, splits: Mapping[str, Any], allowed: Collection[str]
) -> list[Finding]:
    table = seen.table
    whole = table.lengths if table.num_cut is None else table.lengths + table.num_cut
    figures = {"max_length": covering_length(whole), "context": known.context}
    found = []
    for name, hits in seen.hits.items():
        kind = FINDINGS[name]
        share = hits.count / len(table.lengths)
        if kind.answers is not None:
            share = int(kind.answers(table).sum()) / seen.num_answers
        is_error = share > kind.error_above
        level = ("allowed" if name in allowed else "error") if is_error else "warning"
        what = kind.words + _tokens_named(hits, known)
        first = [origin_of(splits, row) for row in hits.first]
        remedy = kind.remedy.format(**figures)
        found.append(
            Finding(name=name, level=level, count=hits.count, what=what, remedy=remedy, first=first)
        )
    for name, tell in MODEL_FINDINGS.items():
        problem = tell(known)
        if problem:
            remedy = MODEL_REMEDIES[name]
            found.append(
                Finding(name=name, level="warning", count=0, what=problem, remedy=remedy, first=[])
            )
    return sorted(found, key=lambda f: ("error", "allowed", "warning").index(f.level))


def _tokens_named(hits: Hits, known: Vocabulary) -> str:
    named = hits.tokens.most_common(_NUM_TOKENS_NAMED)
    if not named:
        return ""
    shown = ", ".join(f"{known.name_of(token)!r} {count:,} times" for token, count in named)
    more = len(hits.tokens) - len(named)
    return f": {shown}" + (f" and {more:,} others" if more else "")
