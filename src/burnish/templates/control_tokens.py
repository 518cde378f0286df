"""Control tokens inside somebody's text: kept from the template, encoded as ordinary text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from burnish.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def pattern_of(names: Iterable[str]) -> re.Pattern[str]:
    """What finds the control tokens of these names in a text, the longest first."""
    ordered = sorted((name for name in names if name.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")


class Hidden:
    """Keeps the control tokens that stand inside messages out of the template's sight."""

    # Private-use characters: no real text holds them, and no tokenizer has a token of theirs.
    _OPEN, _CLOSE = "\ue0f0", "\ue0f1"
    _MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._control = control
        self._texts: list[str] = []

    def cover(self, value: Any) -> Any:
        """A text with a placeholder for each control token in it.

        Of a message, a list or an object, all texts are covered.
        """
        if isinstance(value, str):
            value = value.replace(self._OPEN, "").replace(self._CLOSE, "")
            return self._control.sub(self._hide, value)
        if isinstance(value, Message):
            calls = tuple(self.cover(value.tool_calls))
            content, context = self.cover(value.content), self.cover(value.input)
            return replace(value, content=content, input=context, tool_calls=calls)
        if isinstance(value, dict):
            return {self.cover(key): self.cover(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.cover(part) for part in value]
        return value

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered text; a placeholder's control token is encoded as ordinary text."""
        if not self._texts:
            return self._ids(text)
        ids: list[int] = []
        for index, piece in enumerate(self._MARK.split(text)):
            if index % 2:
                ids += self._as_text(self._texts[int(piece)])
            elif piece:
                ids += self._ids(piece)
        return ids

    def _hide(self, found: re.Match[str]) -> str:
        self._texts.append(found.group())
        return f"{self._OPEN}{len(self._texts) - 1}{self._CLOSE}"

    def _as_text(self, control: str) -> list[int]:
        """Ids of a control token's name, none of which is that token."""
        ids = self._ids(control, split_special_tokens=True)
        if len(ids) > 1 or len(control) < 2:
            return ids
        # The option knows only tokens that are marked as special.
        return self._ids(control[:1]) + self._ids(control[1:])

    def _ids(self, text: str, **options: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, **options)["input_ids"])
