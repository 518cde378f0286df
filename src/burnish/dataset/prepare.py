"""The prepare stage: conversations.jsonl -> train/, validation/ and test/, tokens and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from burnish.conversation import Conversation, Example, Rejection
from burnish.dataset.overlap import find_train_overlaps, overlap_rejection
from burnish.dataset.split import SPLITS, assign_splits, copies
from burnish.errors import DataError, RecipeError
from burnish.labels.audit import PAGE_NAME, audit_prepared
from burnish.labels.findings import FINDINGS
from burnish.labels.report import LabelReport
from burnish.models.names import find_model
from burnish.parity.certificate import certify, write_certificate
from burnish.parity.checks import check_tokenizer
from burnish.progress import say, track, warn
from burnish.recipe import ModelSection, PrepareSection
from burnish.rendering import (
    NoAnswerLeft,
    load_tokenizer,
    pin_date,
    render_row,
    stop_token_ids,
)
from burnish.run_dir import PROMPTS_NAME, RunDir, write_json, write_jsonl
from burnish.templates.plain import template_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PrepareReport(BaseModel):
    """How many examples came out, and what carries loss in them."""

    model_config = ConfigDict(frozen=True)

    folder: str
    template: str
    num_examples: dict[str, int]
    num_tokens: dict[str, int]
    num_supervised_tokens: dict[str, int]
    num_rejected: dict[str, int]
    num_cut: int
    num_without_stop_token: int
    num_overlapping: int
    longest: int
    findings: dict[str, int]


def prepare(model: ModelSection, section: PrepareSection, run: RunDir) -> PrepareReport:
    """Renders every conversation once, and saves the splits as Hugging Face data sets.

    Raises:
        DataError: no conversation is left to train on.
        RecipeError: allow_findings names a finding that there is none of.
        ModelError: the tokenizer can't be loaded.
    """
    _check_allowed(section)
    model_folder = find_model(model, weights=False)
    tokenizer = load_tokenizer(model_folder, model)
    pin_date(tokenizer, date.today())
    read = read_conversations(run.conversations)
    conversations = [conversation.trained_on(section.train_on) for conversation in read]
    splits, rejections = assign_splits(conversations, section)
    overlaps = _check_overlaps(splits, rejections, section)
    rendered: dict[str, list[tuple[Example, Conversation]]] = {name: [] for name in SPLITS}
    num_all = sum(map(len, splits.values()))
    num_apart = 0
    rows = ((name, c) for name in SPLITS for c in splits[name])
    for name, conversation in track(rows, "prepare", total=num_all, unit="rows"):
        taken = copies(conversation, section.seed, held_out=name != "train")
        outcomes = _render(conversation, tokenizer, section)
        examples = [(found, part) for part, found in outcomes if isinstance(found, Example)]
        rejections += [found for _, found in outcomes if isinstance(found, Rejection)]
        if examples and not taken:
            rejections.append(_not_sampled(conversation))
        num_apart += taken > 0 and len(examples) > 1
        rendered[name] += examples * taken
    _check_something_left(rendered, rejections, num_all)
    report = _report(rendered, rejections, tokenizer, run, num_overlapping=len(overlaps))
    with run.fresh("prepare") as folder:
        for name in SPLITS:
            _save_split(rendered[name], folder / name)
        tokenizer.save_pretrained(str(folder / "tokenizer"))
        certificate = certify(tokenizer)
        check_tokenizer(certificate, load_tokenizer(folder / "tokenizer", model), "2-prepare")
        write_certificate(certificate, folder / PROMPTS_NAME)
        write_jsonl(folder / "rejected.jsonl", (r.as_dict() for r in rejections))
        write_jsonl(folder / "cut.jsonl", _cut_rows(rendered))
        write_jsonl(folder / "overlap.jsonl", overlaps.values())
        audit = audit_prepared(folder, tokenizer, model_folder, SPLITS, section.allow_findings)
        report = report.model_copy(update={"findings": {f.name: f.count for f in audit.findings}})
        write_json(folder / "summary.json", report.model_dump(exclude={"folder"}))
    _say_what_matters(report, section)
    if num_apart and section.train_on == "all":
        say(
            f"{num_apart} conversations became an example for each answer: the chat template "
            "writes their earlier answers otherwise than it asks for them"
        )
    _say_findings(audit, run)
    return report


def _check_allowed(section: PrepareSection) -> None:
    for name in section.allow_findings:
        if name not in FINDINGS:
            raise RecipeError(
                "prepare.allow_findings",
                f"there is no finding {name!r}.",
                f"Choose: {', '.join(FINDINGS)}.",
            )


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations that cleaning kept."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Conversation.from_json(line)


def _render(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, section: PrepareSection
) -> list[tuple[Conversation, Example | Rejection]]:
    """The conversations that a row is learned as, each with its example or why there is none."""
    parts = render_row(conversation, tokenizer, section.max_length, section.train_on)
    return [(part, _kept(found, part, section)) for part, found in parts]


def _kept(
    found: Example | DataError, conversation: Conversation, section: PrepareSection
) -> Example | Rejection:
    text = conversation.answer
    if isinstance(found, NoAnswerLeft):
        return Rejection(conversation.origin, "no_answer_left", found.problem, text)
    if isinstance(found, DataError):
        reason = f"{found.problem} {found.remedy}"
        return Rejection(conversation.origin, "chat_template", reason, text)
    if found.num_cut and section.too_long == "reject":
        reason = f"the example is {found.num_cut} tokens longer than {section.max_length}."
        return Rejection(conversation.origin, "too_long", reason, text)
    return found


def _check_overlaps(
    splits: dict[str, list[Conversation]], rejections: list[Rejection], section: PrepareSection
) -> dict[str, dict[str, Any]]:
    """What training rows share with held-out ones; takes them out if the recipe says so."""
    if section.train_test_overlap == "off":
        return {}
    overlaps = find_train_overlaps(splits)
    if section.train_test_overlap == "drop":
        dropped = [c for c in splits["train"] if c.origin in overlaps]
        rejections += [overlap_rejection(c, overlaps[c.origin]) for c in dropped]
        splits["train"] = [c for c in splits["train"] if c.origin not in overlaps]
    return overlaps


def _not_sampled(conversation: Conversation) -> Rejection:
    reason = f"its source has the weight {conversation.weight:g}, and it was not drawn."
    return Rejection(conversation.origin, "not_sampled", reason, conversation.answer)


def _check_something_left(
    rendered: dict[str, list[tuple[Example, Conversation]]],
    rejections: Sequence[Rejection],
    num_all: int,
) -> None:
    if rendered["train"]:
        return
    if rejections:
        raise DataError(
            rejections[0].origin,
            f"none of {num_all} conversations is left to train on; this one because "
            f"{rejections[0].reason}",
            "Raise prepare.max_length."
            if rejections[0].rule in ("no_answer_left", "too_long")
            else "",
        )
    raise DataError(
        "prepare",
        f"all of {num_all} conversations fell into the held-out splits.",
        "Lower prepare.validation_size and prepare.test_size, or bring more rows.",
    )


def _save_split(rows: Sequence[tuple[Example, Conversation]], folder: Path) -> None:
    from datasets import Dataset, Features, List, Value
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    message = {"role": Value("string"), "content": Value("string"), "input": Value("string")}
    features = Features(
        {
            "input_ids": List(Value("int32")),
            "labels": List(Value("int32")),
            "num_cut": Value("int32"),
            "messages": List(message),
            "conversation": Value("string"),
            "origin": Value("string"),
        }
    )
    columns: dict[str, list[Any]] = {
        "input_ids": [example.input_ids for example, _ in rows],
        "labels": [example.labels for example, _ in rows],
        "num_cut": [example.num_cut for example, _ in rows],
        "messages": [
            [{"role": m.role, "content": m.content, "input": m.input} for m in c.messages]
            for _, c in rows
        ],
        # As text: calls of tools have a shape of their own in each row, which a table can't hold.
        "conversation": [c.as_json() for _, c in rows],
        "origin": [example.origin for example, _ in rows],
    }
    # Without rows, save_to_disk writes no shard unless told to, and load_from_disk then fails.
    num_shards = None if rows else 1
    Dataset.from_dict(columns, features=features).save_to_disk(str(folder), num_shards=num_shards)


def _cut_rows(
    rendered: dict[str, list[tuple[Example, Conversation]]],
) -> Iterator[dict[str, Any]]:
    for name, rows in rendered.items():
        for example, _ in rows:
            if example.num_cut:
                yield {"origin": example.origin, "split": name, "num_cut": example.num_cut}


def _report(
    rendered: dict[str, list[tuple[Example, Conversation]]],
    rejections: Sequence[Rejection],
    tokenizer: PreTrainedTokenizerBase,
    run: RunDir,
    *,
    num_overlapping: int,
) -> PrepareReport:
    stops = set(stop_token_ids(tokenizer))
    examples = [example for rows in rendered.values() for example, _ in rows]
    rules = sorted({r.rule for r in rejections})
    return PrepareReport(
        folder=str(run.folder("prepare")),
        template=template_name(tokenizer),
        num_examples={name: len(rows) for name, rows in rendered.items()},
        num_tokens={
            name: sum(len(e.input_ids) for e, _ in rows) for name, rows in rendered.items()
        },
        num_supervised_tokens={
            name: sum(e.num_supervised for e, _ in rows) for name, rows in rendered.items()
        },
        num_rejected={rule: sum(r.rule == rule for r in rejections) for rule in rules},
        num_cut=sum(e.num_cut > 0 for e in examples),
        num_without_stop_token=sum(e.labels[-1] not in stops for e in examples),
        num_overlapping=num_overlapping,
        longest=max(len(e.input_ids) for e in examples),
        findings={},
    )


def _say_what_matters(report: PrepareReport, section: PrepareSection) -> None:
    if report.template != "own":
        say(f"this model brings no chat template or was told otherwise: {report.template} is used")
    if report.num_cut:
        warn(
            f"{report.num_cut} answers were cut to max_length {section.max_length}, so their stop "
            "token goes untrained; cut.jsonl lists them"
        )
    if report.num_overlapping and section.train_test_overlap == "report":
        warn(
            f"{report.num_overlapping} training rows share much text with held-out ones; "
            "overlap.jsonl lists them, prepare.train_test_overlap: drop takes them out"
        )


def _say_findings(audit: LabelReport, run: RunDir) -> None:
    """What the audit found, but for cut answers, which are said already."""
    for finding in audit.findings:
        if finding.name == "cut_answers":
            continue
        rows = f" in {finding.count:,} rows" if finding.count else ""
        warn(f"{finding.name}{rows} ({finding.level}): {finding.what}; {finding.remedy}")
    if audit.num_errors:
        page = run.folder("prepare") / PAGE_NAME
        warn(f"train will refuse to start; {page} shows the rows")
