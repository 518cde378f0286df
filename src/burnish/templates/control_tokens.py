"""Boundaries of a chat template inside somebody's text: kept from it, encoded as ordinary text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from burnish.conversation import Message
from burnish.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Private-use characters: tokenizers have no token of theirs, and templates no rule for them. Where
# somebody's text holds them, they are hidden like control tokens.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_OWN = re.compile(rf"[{_OPEN}{_CLOSE}]|\\ue0f[01]")
# A template that writes JSON in ASCII, or Python's own form of an object, writes them as escapes.
_MARK = re.compile(rf"(?:{_OPEN}|(?P<escaped>\\ue0f0))([0-9]+)(?:{_CLOSE}|\\ue0f1)")


REASONING_MARKS = {"<think>": "</think>", "[THINK]": "[/THINK]", "<|channel>thought": "<channel|>"}
"""What opens a block of reasoning in an answer, and what closes it: they are the assistant's."""


def pattern_of(
    names: Iterable[str],
    *,
    ends: Collection[str] = (),
    begins: Collection[str] = (),
    wholes: Collection[str] = (),
) -> re.Pattern[str]:
    """What finds these names in a text, the longest first.

    `ends` and `begins` are found only there, `wholes` only where they are the whole text.
    """
    ordered = sorted((name for name in names if name.strip()), key=len, reverse=True)
    # By first letter: else each of thousands of names would be tried at every character.
    by_letter: dict[str, list[str]] = {}
    for name in ordered:
        by_letter.setdefault(name[0], []).append(re.escape(name[1:]))
    parts = [_OWN.pattern]
    parts += [f"{re.escape(letter)}(?:{'|'.join(rest)})" for letter, rest in by_letter.items()]
    parts += [re.escape(part) + r"\Z" for part in sorted(ends, key=len, reverse=True)]
    parts += [r"\A" + re.escape(part) for part in sorted(begins, key=len, reverse=True)]
    parts += [rf"\A{re.escape(part)}\Z" for part in sorted(wholes)]
    return re.compile("|".join(parts))


@dataclass(frozen=True, slots=True)
class Boundaries:
    """What ends or opens something in the text of a chat template.

    Attributes:
        anyone: finds it in the text of a user, a system prompt, a tool.
        assistant: finds it in the assistant's text, where marks of reasoning and of calls stay.
        names: the control tokens by id.
        prepends: whether the tokenizer writes a blank before each text that it is given.
    """

    anyone: re.Pattern[str]
    assistant: re.Pattern[str]
    names: dict[int, str]
    prepends: bool = False


class Hidden:
    """Keeps boundaries that stand inside messages out of the template's sight."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, boundaries: Boundaries) -> None:
        self._tokenizer = tokenizer
        self._boundaries = boundaries
        self._texts: list[str] = []

    def cover(self, value: Any, pattern: re.Pattern[str] | None = None) -> Any:
        """A text with a placeholder for each boundary in it, as `pattern` finds them.

        Of a message, a list or an object, all texts are covered.
        """
        pattern = pattern or self._boundaries.anyone
        if isinstance(value, str):
            return pattern.sub(self._hide, value)
        if isinstance(value, Message):
            own = self._boundaries.assistant if value.role == "assistant" else pattern
            return replace(
                value,
                content=own.sub(self._hide, value.content),
                input=own.sub(self._hide, value.input),
                reasoning_content=own.sub(self._hide, value.reasoning_content),
                tool_calls=tuple(self.cover(call, pattern) for call in value.tool_calls),
                call_ids=tuple(self.cover(id_, pattern) for id_ in value.call_ids),
                name=self.cover(value.name, pattern),
                tool_call_id=self.cover(value.tool_call_id, pattern),
            )
        if isinstance(value, dict):
            return {
                self.cover(key, pattern): self.cover(part, pattern) for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.cover(part, pattern) for part in value]
        return value

    def uncover(self, text: str) -> str:
        """The text with what its placeholders hide, for people to read."""
        return _MARK.sub(lambda found: self._texts[int(found[2])], text)

    def encode(self, text: str, *, goes_on: bool = False) -> list[int]:
        """Ids of a rendered text; what a placeholder hides is encoded as ordinary text.

        Args:
            text: what the template wrote.
            goes_on: whether other text stands before it.

        Raises:
            DataError: the template cut a placeholder in two.
        """
        if not self._texts:
            return self._ids(text, goes_on=goes_on)
        ids: list[int] = []
        at = 0
        for found in _MARK.finditer(text):
            ids += self._piece(text[at : found.start()], goes_on=goes_on or at > 0)
            name = self._texts[int(found[2])]
            ids += self._as_text(json.dumps(name)[1:-1] if found["escaped"] else name)
            at = found.end()
        return ids + self._piece(text[at:], goes_on=goes_on or at > 0)

    def _hide(self, found: re.Match[str]) -> str:
        self._texts.append(found.group())
        return f"{_OPEN}{len(self._texts) - 1}{_CLOSE}"

    def _piece(self, text: str, *, goes_on: bool) -> list[int]:
        if _OPEN in text or _CLOSE in text:
            raise DataError(
                "chat template",
                "the chat template cuts a message at a place where a control token stands in it.",
                "Take the names of control tokens out of such rows.",
            )
        return self._ids(text, goes_on=goes_on) if text else []

    def _ids(self, text: str, *, goes_on: bool) -> list[int]:
        """Ids of a text in which control tokens are those that stand there by name.

        A tokenizer that normalizes can read one out of other characters, such as full-width ones.
        """
        ids = self._encoded(text, goes_on=goes_on)
        names = self._boundaries.names
        read = Counter(token for token in ids if token in names)
        if all(text.count(names[token]) == count for token, count in read.items()):
            return ids
        try:
            found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError:
            raise DataError(
                "tokenizer",
                "it reads control tokens out of characters that are none: "
                f"{', '.join(names[token] for token in read)}.",
                "Choose a model with a fast tokenizer (tokenizer.json).",
            ) from None
        kept: list[int] = []
        for token, (start, stop) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            meant = token not in names or text[start:stop].strip() == names[token]
            kept += [token] if meant else self._letters(text[start:stop])
        return kept

    def _as_text(self, name: str) -> list[int]:
        """Ids of the name of a boundary: none is a control token, nor are they the boundary's."""
        if _OWN.fullmatch(name):
            return self._encoded(name, goes_on=True)
        names = self._boundaries.names
        if name in names.values():
            # The option knows only tokens that are marked as special.
            ids = self._encoded(name, goes_on=True, split_special_tokens=True)
            if not any(token in names for token in ids):
                return ids
        boundary = self._encoded(name, goes_on=True)
        for cut in range(1, len(name)):
            ids = self._encoded(name[:cut], goes_on=True) + self._encoded(name[cut:], goes_on=True)
            if ids != boundary and not any(token in names for token in ids):
                return ids
        return self._letters(name)

    def _letters(self, text: str) -> list[int]:
        return [token for letter in text for token in self._encoded(letter, goes_on=True)]

    def _encoded(self, text: str, *, goes_on: bool, **options: bool) -> list[int]:
        if goes_on and self._boundaries.prepends:
            before, whole = self._call("\n", **options), self._call("\n" + text, **options)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return self._call(text, **options)

    def _call(self, text: str, **options: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, **options)["input_ids"])


def prepends_blank(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer writes a blank before each text, as SentencePiece's do by default."""

    def ids(text: str) -> Sequence[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return ids("\na") != [*ids("\n"), *ids("a")]
