"""What cleaning does to one row: pure, so that it runs in any process, in any order.

A chunk of rows goes in; out come JSON lines that say everything about each row, and the arrays by
which rows are compared with one another afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from burnish.cleaning.changes import change_lines, repaired_texts
from burnish.cleaning.duplicates import KEY_BYTES, exact_key, question_text, signatures
from burnish.cleaning.faults import faults_of
from burnish.cleaning.layouts import column_value, to_conversation
from burnish.cleaning.masking import is_hidden, mask_conversation, mask_json, mask_raw
from burnish.cleaning.minhash import normalize
from burnish.cleaning.rules import broken_rules, show
from burnish.cleaning.turns import MissingPart
from burnish.contamination.index import Index
from burnish.contamination.overlaps import find_overlaps, text_of
from burnish.conversation import BadRow, Conversation, Message, Record
from burnish.recipe import CleanSection, PrivacySettings, Source

NO_KEY = -1
"""Stands where a row has nothing to be compared by."""


@dataclass(frozen=True, slots=True)
class RowSettings:
    """All that the fate of a row depends on, besides the row."""

    sources: tuple[Source, ...]
    section: CleanSection
    system_prompt: str | None
    benchmarks: Index | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that follow one another in a source."""

    number: int
    source: int
    layout: str
    rows: tuple[Record | BadRow, ...]


@dataclass(frozen=True, slots=True)
class RowResult:
    """What came of one row; a line of a part file.

    Attributes:
        origin: `file:line`.
        conversation: the JSON of the cleaned conversation; empty where the row is none.
        broken: the rules that it breaks, with the reason; the first is why it is rejected.
        text: the row's text, for rejected.jsonl; empty where no rule is broken.
        faults: what was wrong with it as it came.
        changes: lines of changes.jsonl, each with the names of its repairs.
        findings: lines of privacy.jsonl.
        overlap: what it shares with a benchmark item, an Overlap as a dict; empty where nothing.
    """

    origin: str
    conversation: str = ""
    broken: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    faults: list[str] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    overlap: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """What rows are compared by: arrays with one entry a row.

    Attributes:
        alive: whether no rule rejects the row. [rows], bool
        keys: equal for equal rows; zero where the row is no conversation. [rows, KEY_BYTES], uint8
        signatures: MinHash. [rows, permutations], uint8
        quality: the higher, the better. [rows], float32
        questions: a hash of the question, or NO_KEY. [rows], int64
        answers: the same of the answer. [rows], int64
        columns: a hash of the column to group by, or NO_KEY. [rows], int64
    """

    alive: NDArray[np.bool_]
    keys: NDArray[np.uint8]
    signatures: NDArray[np.uint8]
    quality: NDArray[np.float32]
    questions: NDArray[np.int64]
    answers: NDArray[np.int64]
    columns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.alive)


@dataclass(frozen=True, slots=True)
class CleanedChunk:
    """A chunk after cleaning.

    Attributes:
        number: the chunk's place in the order of reading.
        lines: a RowResult each, as JSON.
        table: what its rows are compared by.
        stop: the first row that can't be read, where the recipe wants to stop there.
    """

    number: int
    lines: list[bytes]
    table: Table
    stop: tuple[str, str] | None = None


def clean_chunk(chunk: Chunk, settings: RowSettings) -> CleanedChunk:
    """Every row of a chunk, repaired and judged."""
    key = settings.section.duplicate_key
    results, conversations, written, columns = zip(
        *(_clean_row(row, chunk, settings) for row in chunk.rows), strict=True
    )
    unreadable = [r for r, c in zip(results, conversations, strict=True) if c is None]
    stop = None
    if unreadable and settings.section.bad_rows == "stop":
        stop = (unreadable[0].origin, unreadable[0].broken[0][1])
    _note_overlaps(results, written, settings.benchmarks)
    questions = [hash_of(question_text(c)) if c else NO_KEY for c in conversations]
    answers = [hash_of(normalize(c.answer)) if c else NO_KEY for c in conversations]
    quality = [_quality(c, r) for c, r in zip(conversations, results, strict=True)]
    keys = b"".join(exact_key(c, key) if c else bytes(KEY_BYTES) for c in conversations)
    table = Table(
        alive=np.array([not result.broken for result in results], np.bool_),
        keys=np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES),
        signatures=signatures(conversations, key),
        quality=np.array(quality, np.float32),
        questions=np.array(questions, np.int64),
        answers=np.array(answers, np.int64),
        columns=np.array(columns, np.int64),
    )
    return CleanedChunk(chunk.number, [_to_line(result) for result in results], table, stop)


def from_line(line: bytes) -> RowResult:
    """The result that a line of a part file holds."""
    return RowResult(**json.loads(line))


def _to_line(result: RowResult) -> bytes:
    # Only what is not empty, and a lone surrogate as its escape: a broken row is written down too.
    given = {name: value for name in RowResult.__slots__ if (value := getattr(result, name))}
    text = json.dumps(given, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace")


def hash_of(text: str) -> int:
    """A hash of a text that is the same in every process; NO_KEY for an empty one."""
    if not text:
        return NO_KEY
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _CleanedRow(NamedTuple):
    """A row with its conversation, and that conversation as it may be written to disk."""

    result: RowResult
    conversation: Conversation | None
    written: Conversation | None
    column: int


def _clean_row(row: Record | BadRow, chunk: Chunk, settings: RowSettings) -> _CleanedRow:
    section, privacy = settings.section, settings.section.privacy
    if isinstance(row, BadRow):
        return _no_conversation(row.origin, "unreadable", row.reason, row.text, privacy)
    source = settings.sources[chunk.source]
    try:
        raw, column = _read(row, chunk.layout, source, settings.system_prompt)
    except MissingPart as missing:
        fields = mask_json(row.fields, privacy) if is_hidden(privacy) else row.fields
        text = json.dumps(fields, ensure_ascii=False, default=str)
        return _no_conversation(row.origin, missing.rule, missing.reason, text, privacy)
    repaired, texts = repaired_texts(raw, section)
    masked, found = mask_conversation(repaired, privacy)
    conversation = masked if privacy.action == "mask" else repaired
    written = masked if is_hidden(privacy) else repaired
    broken = broken_rules(conversation, section)
    if found and privacy.action == "drop":
        kinds = ", ".join(dict.fromkeys(f.kind for place in found for f in place.findings))
        broken.append(("private", f"it holds personal data: {kinds}."))
    result = RowResult(
        raw.origin,
        written.as_json(),
        broken,
        show(written) if broken else "",
        [*faults_of(raw)],
        change_lines(raw.origin, texts, found, privacy),
        [
            {"origin": raw.origin, "field": place.field, "kind": f.kind, "text": hidden(f.text)}
            for place in found
            for f in place.findings
        ],
    )
    return _CleanedRow(result, conversation, written, column)


def _no_conversation(
    origin: str, rule: str, reason: str, text: str, privacy: PrivacySettings
) -> _CleanedRow:
    if is_hidden(privacy):
        reason, text = mask_raw(reason, privacy), mask_raw(text, privacy)
    return _CleanedRow(RowResult(origin, broken=[(rule, reason)], text=text), None, None, NO_KEY)


def _read(
    record: Record, layout: str, source: Source, system_prompt: str | None
) -> tuple[Conversation, int]:
    conversation = to_conversation(record, layout, source.columns)
    messages = conversation.messages
    if system_prompt and messages[0].role not in ("system", "text"):
        messages = (Message("system", system_prompt), *messages)
    column = NO_KEY
    if source.group_by and (value := column_value(record, source.group_by)):
        column = hash_of(f"{source.group_by}\x1f{value}")
    stratum = column_value(record, source.stratify_by) if source.stratify_by else ""
    return replace(conversation, messages=messages, stratum=stratum, weight=source.weight), column


def hidden(secret: str) -> str:
    """A secret of which only the first and the last characters can be read, for a list."""
    shown = min(3, len(secret) // 4)
    return secret[:shown] + "*" * (len(secret) - 2 * shown) + secret[len(secret) - shown :]


def _note_overlaps(
    results: Sequence[RowResult],
    conversations: Sequence[Conversation | None],
    benchmarks: Index | None,
) -> None:
    """Notes what the rows share with benchmark items."""
    if benchmarks is None:
        return
    texts = [text_of(c, with_tools=True) if c else "" for c in conversations]
    found = find_overlaps(texts, benchmarks)
    for result, overlap in zip(results, found, strict=True):
        if overlap is not None:
            result.overlap.update(asdict(overlap))


def _quality(conversation: Conversation | None, result: RowResult) -> float:
    """Of near-duplicates the longest is kept; one that ends well and needed no repair leads."""
    if conversation is None:
        return 0.0
    length = sum(len(m.content) + len(m.input) for m in conversation.messages)
    ends_well = conversation.answer.rstrip().endswith(tuple('。！？.!?…）)”"`'))
    return length + 20.0 * ends_well - 20.0 * len(result.changes)
