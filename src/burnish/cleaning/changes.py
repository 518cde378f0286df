"""What cleaning rewrote in a row: its repaired texts, and the lines of changes.jsonl."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, NamedTuple

from burnish.cleaning.markup import asks_about_markup
from burnish.cleaning.masking import Masked, is_hidden, mask_before
from burnish.cleaning.text import repair
from burnish.conversation import Conversation
from burnish.recipe import CleanSection, PrivacySettings


class Change(NamedTuple):
    """A text before and after its repair, and the names of the repairs that changed it."""

    before: str
    after: str
    repairs: list[str]


def repaired_texts(
    conversation: Conversation, section: CleanSection
) -> tuple[Conversation, dict[str, Change]]:
    """The repaired conversation, and by its field each text that a repair changed."""
    about_markup = asks_about_markup(conversation)
    changes: dict[str, Change] = {}
    messages = []
    for index, message in enumerate(conversation.messages):
        texts = {}
        for part in ("content", "input", "reasoning_content"):
            before = getattr(message, part)
            texts[part], repairs = repair(before, section, about_markup=about_markup)
            if repairs:
                changes[f"messages[{index}].{part}"] = Change(before, texts[part], repairs)
        repaired = replace(
            message,
            content=texts["content"],
            input=texts["input"],
            reasoning_content=texts["reasoning_content"],
        )
        messages.append(repaired)
    if not changes:
        return conversation, changes
    return replace(conversation, messages=tuple(messages)), changes


def change_lines(
    origin: str, changes: dict[str, Change], found: list[Masked], privacy: PrivacySettings
) -> list[dict[str, Any]]:
    """Lines of changes.jsonl; without personal data where these must not be written to disk."""
    masked = {place.field: place for place in found} if is_hidden(privacy) else {}
    masks = masked if privacy.action == "mask" else {}
    lines = []
    for name in sorted({*changes, *masks}, key=_place_of):
        place = masked.get(name)
        before, after, repairs = changes.get(name) or Change("", "", [])
        if place:
            after = place.text
            kinds = dict.fromkeys(finding.kind for finding in place.findings)
            repairs = [*repairs, *(f"mask_{kind}" for kind in kinds if name in masks)]
        if is_hidden(privacy):
            before = mask_before(before, place, privacy)
        line = {"origin": origin, "field": name, "repairs": repairs}
        lines.append({**line, "before": before, "after": after})
    return lines


_MESSAGE = re.compile(r"messages\[(\d+)\]")


def _place_of(name: str) -> tuple[float, str]:
    """Sorts fields by their message, its content before its input and its calls; tools go last."""
    found = _MESSAGE.match(name)
    return (int(found[1]) if found else math.inf), name
