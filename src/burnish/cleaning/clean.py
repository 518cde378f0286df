"""The clean stage: raw files -> conversations.jsonl, rejected.jsonl and changes.jsonl."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict

from burnish.cleaning.files import read_records
from burnish.cleaning.layouts import MissingPart, layout_of, to_conversation
from burnish.cleaning.rules import first_broken_rule, same_key, show
from burnish.cleaning.text import is_about_markup, repair
from burnish.conversation import BadRow, Conversation, Message, Record, Rejection
from burnish.errors import DataError
from burnish.progress import say, track
from burnish.recipe import CleanSection, DataSection, Source
from burnish.run_dir import RunDir, write_jsonl


class CleanReport(BaseModel):
    """What came of every row: num_read = num_kept + the sum of num_rejected."""

    model_config = ConfigDict(frozen=True)

    conversations: str
    rejected: str
    num_read: int
    num_kept: int
    num_rejected: dict[str, int]
    num_repaired: dict[str, int]


@dataclass
class _Ledger:
    """Collects what happens to each row."""

    num_read: int = 0
    kept: list[Conversation] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    changes: list[dict[str, object]] = field(default_factory=list)
    seen: dict[bytes, str] = field(default_factory=dict)


def clean(data: DataSection, section: CleanSection, run: RunDir) -> CleanReport:
    """Keeps the conversations that break no rule, and says why each other was dropped.

    Raises:
        DataError: a source can't be read, or no row of all was kept.
    """
    ledger = _Ledger()
    for row in track(_conversations(data, section), "clean", total=None, unit="rows"):
        ledger.num_read += 1
        _judge(row, section, ledger)
    if not ledger.kept:
        raise _nothing_kept(data, ledger)
    with run.fresh("clean") as folder:
        write_jsonl(folder / "conversations.jsonl", (c.as_dict() for c in ledger.kept))
        write_jsonl(folder / "rejected.jsonl", (r.as_dict() for r in ledger.rejections))
        write_jsonl(folder / "changes.jsonl", ledger.changes)
    rejected = Counter(r.rule for r in ledger.rejections)
    repaired = Counter(str(change["repair"]) for change in ledger.changes)
    for rejection in ledger.rejections[:3]:
        say(f"rejected {rejection.origin} ({rejection.rule}): {rejection.reason}")
    return CleanReport(
        conversations=str(run.conversations),
        rejected=str(run.folder("clean") / "rejected.jsonl"),
        num_read=ledger.num_read,
        num_kept=len(ledger.kept),
        num_rejected=dict(rejected.most_common()),
        num_repaired=dict(repaired.most_common()),
    )


def _conversations(data: DataSection, section: CleanSection) -> Iterator[Conversation | Rejection]:
    """The rows of all sources, as conversations or as rejections of what can't be read."""
    for index, source in enumerate(data.sources):
        layout: str | None = None
        for row in read_records(source):
            if isinstance(row, Record):
                layout = layout or layout_of(source, row, f"data.sources[{index}]")
                outcome = _read_row(row, layout, source, data.system_prompt)
            else:
                outcome = _bad_row(row)
            if isinstance(outcome, Rejection) and section.bad_rows == "stop":
                raise DataError(
                    outcome.origin,
                    outcome.reason,
                    "Mend the row, or set clean.bad_rows: reject to go on without it.",
                )
            yield outcome


def _read_row(
    record: Record, layout: str, source: Source, system_prompt: str | None
) -> Conversation | Rejection:
    try:
        conversation = to_conversation(record, layout, source.columns)
    except MissingPart as missing:
        text = json.dumps(record.fields, ensure_ascii=False, default=str)
        return Rejection(record.origin, missing.rule, missing.reason, text)
    if system_prompt and conversation.messages[0].role != "system":
        with_system = (Message("system", system_prompt), *conversation.messages)
        return replace(conversation, messages=with_system)
    return conversation


def _bad_row(row: BadRow) -> Rejection:
    return Rejection(row.origin, "unreadable", row.reason, row.text)


def _judge(row: Conversation | Rejection, section: CleanSection, ledger: _Ledger) -> None:
    if isinstance(row, Rejection):
        ledger.rejections.append(row)
        return
    conversation = _repaired(row, section, ledger)
    rejection = first_broken_rule(conversation, section)
    if rejection is None and section.drop_duplicates:
        rejection = _duplicate(conversation, ledger)
    if rejection is None:
        ledger.kept.append(conversation)
    else:
        ledger.rejections.append(rejection)


def _repaired(conversation: Conversation, section: CleanSection, ledger: _Ledger) -> Conversation:
    about_markup = any(
        is_about_markup(m.content) for m in conversation.messages if m.role == "user"
    )
    messages = []
    for index, message in enumerate(conversation.messages):
        repaired = {}
        for part in ("content", "input"):
            before = getattr(message, part)
            after, names = repair(before, section, about_markup=about_markup)
            repaired[part] = after
            ledger.changes += [
                {
                    "origin": conversation.origin,
                    "field": f"messages[{index}].{part}",
                    "repair": name,
                    "before": before,
                    "after": after,
                }
                for name in names
            ]
        messages.append(Message(message.role, repaired["content"], repaired["input"]))
    return replace(conversation, messages=tuple(messages))


def _duplicate(conversation: Conversation, ledger: _Ledger) -> Rejection | None:
    key = hashlib.blake2b("\x1e".join(same_key(conversation)).encode("utf-8", "surrogatepass"))
    first = ledger.seen.get(key.digest())
    if first is None:
        ledger.seen[key.digest()] = conversation.origin
        return None
    return Rejection(
        conversation.origin, "duplicate", f"equal to {first}, which is kept.", show(conversation)
    )


def _nothing_kept(data: DataSection, ledger: _Ledger) -> DataError:
    if not ledger.rejections:
        return DataError(
            data.sources[0].path, "there is no row in this file.", "Check that it is the right one."
        )
    first = ledger.rejections[0]
    return DataError(
        first.origin,
        f"none of {ledger.num_read} rows was kept; this one because {first.reason}",
        "Check the columns under data.sources[0].columns and the rules under clean.",
    )
