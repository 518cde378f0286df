"""Counts over all rows, and the first examples of each kind: rows come one at a time and go."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from burnish.auditing.excerpts import around, difference, locate, shortened, visible
from burnish.auditing.measures import language_of
from burnish.auditing.report import Change
from burnish.cleaning.faults import FAULTS
from burnish.cleaning.markup import asks_about_markup
from burnish.cleaning.privacy import mask
from burnish.cleaning.row import RowResult
from burnish.cleaning.rules import broken_rules, show
from burnish.cleaning.text import REPAIRS
from burnish.conversation import Conversation
from burnish.recipe import CleanSection

NUM_EXAMPLES = 5
"""So many examples are kept of each kind."""

Shown = TypeVar("Shown")

_FIELD = re.compile(r"messages\[(\d+)\]\.(content|input)")


class Kinds(Generic[Shown]):
    """Rows of each kind: how many there are, and what is shown of the first of them by origin."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: defaultdict[str, dict[str, Shown]] = defaultdict(dict)

    def count(self, kind: str) -> bool:
        """Counts a row; whether it is to be shown, as the first few are."""
        self.counts[kind] += 1
        return len(self.first[kind]) < NUM_EXAMPLES


@dataclass(frozen=True, slots=True)
class Settings:
    """What a tally is made with.

    Attributes:
        section: the settings that the rows were cleaned with.
        off_repairs: the repairs that are switched off.
        off_rules: for each switched-off rule's setting, the section with that one on.
        source_names: what the origins of each source begin with.
        wanted: origins of rows whose text is to be kept.
    """

    section: CleanSection
    off_repairs: tuple[str, ...]
    off_rules: dict[str, CleanSection]
    source_names: tuple[str, ...]
    wanted: frozenset[str]

    @classmethod
    def of(
        cls, section: CleanSection, source_names: Collection[str], wanted: Collection[str]
    ) -> Settings:
        """The settings, with those that are switched off."""
        return cls(
            section,
            tuple(name for name in REPAIRS if not getattr(section, name)),
            {
                name: section.model_copy(update={name: True})
                for name in CleanSection.model_fields
                if name.startswith("drop_")
                and not name.endswith("duplicates")
                and not getattr(section, name)
            },
            # The longest first: one name may begin another.
            tuple(sorted(source_names, key=len, reverse=True)),
            frozenset(wanted),
        )

    def hide(self, text: str) -> str:
        """The text without the personal data that the recipe looks for."""
        privacy = self.section.privacy
        return text if privacy.action == "off" else mask(text, privacy.kinds, privacy.allow)[0]

    def short(self, text: str) -> str:
        """The text to show, of its beginning and its end."""
        return shortened(self.hide(text))


@dataclass(slots=True)
class Tally:
    """What was seen of the rows so far; lengths are those of the rows that are kept."""

    faults: Kinds[str] = field(default_factory=Kinds)
    rules: Kinds[str] = field(default_factory=Kinds)
    repairs: Kinds[Change] = field(default_factory=Kinds)
    switched_off: Kinds[Change | str] = field(default_factory=Kinds)
    personal_data: Kinds[str] = field(default_factory=Kinds)
    benchmark_items: Kinds[str] = field(default_factory=Kinds)
    languages: Counter[str] = field(default_factory=Counter)
    per_source: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)
    questions: array[int] = field(default_factory=lambda: array("q"))
    answers: array[int] = field(default_factory=lambda: array("q"))


def add_row(
    tally: Tally, result: RowResult, settings: Settings, *, kept: bool
) -> Conversation | None:
    """Counts a row; returns its cleaned conversation, or None where it is none."""
    name = next((n for n in settings.source_names if result.origin.startswith(n)), "")
    tally.per_source[name] += 1
    for finding in result.findings:
        if tally.personal_data.count(finding["kind"]):
            tally.personal_data.first[finding["kind"]][result.origin] = visible(finding["text"])
    if not result.conversation:
        _add_rules(tally, result, result.text, settings)
        return None
    conversation = Conversation.from_json(result.conversation)
    _add_rules(tally, result, conversation.answer, settings)
    _add_faults(tally, result, conversation, settings)
    _add_repairs(tally, result, settings)
    _add_switched_off(tally, result, conversation, settings)
    tally.languages[language_of(conversation.answer)] += 1
    if kept:
        question, answer = num_characters(conversation)
        tally.questions.append(question)
        tally.answers.append(answer)
    if result.origin in settings.wanted:
        tally.texts[result.origin] = settings.short(show(conversation))
    return conversation


def add_benchmark_items(tally: Tally, path: Path) -> None:
    """Counts the rows of contamination.jsonl, from which terms of the subject are gone."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            leak = json.loads(line)
            if tally.benchmark_items.count(leak["benchmark"]):
                shown = f"{leak['item']} ({leak['kind']}): {shortened(leak['gram'])}"
                tally.benchmark_items.first[leak["benchmark"]][leak["origin"]] = shown


def num_characters(conversation: Conversation) -> tuple[int, int]:
    """The characters of all that is asked, and of all that is answered (or of the passage)."""
    answer = sum(len(m.content) for m in conversation.messages if m.role in ("assistant", "text"))
    whole = sum(len(m.content) + len(m.input) for m in conversation.messages)
    return whole - answer, answer


def _add_rules(tally: Tally, result: RowResult, text: str, settings: Settings) -> None:
    for rule, reason in result.broken:
        if tally.rules.count(rule):
            shown = f"{visible(reason)} {settings.short(text)}".rstrip()
            tally.rules.first[rule][result.origin] = shown


def _add_faults(
    tally: Tally, result: RowResult, conversation: Conversation, settings: Settings
) -> None:
    for fault in result.faults:
        if tally.faults.count(fault):
            raw = raw_conversation(conversation, result)
            tally.faults.first[fault][result.origin] = place_of(fault, raw, settings)


def place_of(fault: str, conversation: Conversation, settings: Settings) -> str:
    """The place of a fault, with a little of what stands around it."""
    is_in = FAULTS[fault].is_in
    text = next(text for text in _texts(conversation) if is_in(text))
    hidden = settings.hide(text)
    # A fault within personal data is gone with it.
    return around(hidden, *locate(hidden, is_in)) if is_in(hidden) else shortened(hidden)


def raw_conversation(conversation: Conversation, result: RowResult) -> Conversation:
    """The conversation as it came, before its repairs."""
    messages = list(conversation.messages)
    for change in result.changes:
        found = _FIELD.fullmatch(change["field"])
        assert found, change["field"]
        index = int(found[1])
        messages[index] = replace(messages[index], **{found[2]: change["before"]})
    return replace(conversation, messages=tuple(messages))


def _add_repairs(tally: Tally, result: RowResult, settings: Settings) -> None:
    changes: dict[str, dict[str, Any]] = {}
    for change in result.changes:
        for name in change["repairs"]:
            changes.setdefault(name, change)
    for name, change in changes.items():
        if tally.repairs.count(name):
            shown = _shown(name, change["before"], change["after"], settings)
            tally.repairs.first[name][result.origin] = shown


def _shown(name: str, before: str, after: str, settings: Settings) -> Change:
    """What one repair does to a text; where it needs others before it, what all of them do."""
    before = settings.hide(before)
    alone = REPAIRS[name](before) if name in REPAIRS else before
    shown = difference(before, settings.hide(after) if alone == before else alone)
    return Change(before=shown[0], after=shown[1])


def _add_switched_off(
    tally: Tally, result: RowResult, conversation: Conversation, settings: Settings
) -> None:
    first = tally.switched_off.first
    for name in settings.off_repairs:
        before = next(_texts_changed_by(name, conversation), None)
        if before is not None and tally.switched_off.count(name):
            shown = _shown(name, before, REPAIRS[name](before), settings)
            first[name][result.origin] = shown
    broken = {rule for rule, _ in result.broken}
    for name, section in settings.off_rules.items():
        more = [why for rule, why in broken_rules(conversation, section) if rule not in broken]
        if more and tally.switched_off.count(name):
            first[name][result.origin] = f"{more[0]} {settings.short(conversation.answer)}"


def _texts_changed_by(name: str, conversation: Conversation) -> Iterator[str]:
    """The texts of a conversation that a repair would change."""
    if name == "strip_html" and asks_about_markup(conversation):
        return
    for text in _texts(conversation):
        if REPAIRS[name](text) != text:
            yield text


def _texts(conversation: Conversation) -> Iterator[str]:
    for message in conversation.messages:
        yield from filter(None, (message.content, message.input, message.reasoning_content))
