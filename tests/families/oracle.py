"""What a family's tokenizer must make of a conversation, by scripts that are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from burnish.conversation import IGNORE_INDEX, Conversation, Message
from tests.families.families import FAMILIES
from tests.families.script_parts import Part, Refused
from tests.families.scripts import SCRIPTS


def script(name: str, conversation: Conversation) -> list[Part]:
    """The parts of a conversation in a family's format.

    Raises:
        Refused: it can't be written, or an answer that is to be learned is not written in full.
    """
    messages = list(conversation.messages)
    if not name.startswith("plain_"):
        messages = [_with_input(m) for m in messages]
    if conversation.tools and not FAMILIES[name].tools:
        raise Refused("it knows no tools")
    return [part for part in SCRIPTS[name](messages, conversation.tools) if part[0]]


@dataclass(frozen=True)
class Expected:
    """Ids and labels; `apart` where prompt and answer are encoded apart, else `equal`.

    They are where the tokenizer merges the end of the prompt with the beginning of the answer: a
    server's prompt ends there too. That is possible for the last answer; earlier ones are refused.
    """

    input_ids: list[int]
    labels: list[int]
    kind: str = "equal"


def expected(name: str, conversation: Conversation, tokenizer) -> Expected:
    """What a family's tokenizer must make of a conversation, up to the last learned answer.

    Raises:
        Refused: as `script`.
    """
    parts = script(name, conversation)
    text, learned = "".join(part for part, _ in parts), _learned_spans(parts, conversation)
    ids, spans = _encode(text, tokenizer)
    merged = [a for a, _ in learned if any(start < a < stop for start, stop in spans)]
    if merged and merged != [learned[-1][0]]:
        raise Refused("an earlier answer merges with what stands before it")
    if merged:
        cut = merged[0]
        (before, first), (behind, second) = (
            _encode(t, tokenizer) for t in (text[:cut], text[cut:])
        )
        ids, spans = before + behind, first + [(a + cut, b + cut) for a, b in second]
    labels = [
        token if any(a <= start and stop <= b for a, b in learned) else IGNORE_INDEX
        for token, (start, stop) in zip(ids, spans, strict=True)
    ]
    end = max(i for i, label in enumerate(labels) if label != IGNORE_INDEX) + 1
    return Expected(ids[:end], labels[:end], "apart" if merged else "equal")


def expected_row(
    name: str, conversation: Conversation, tokenizer
) -> list[tuple[Conversation, Expected]]:
    """What a conversation is learned as: itself, or a part for each answer that is learned.

    Raises:
        Refused: it is neither.
    """
    try:
        return [(conversation, expected(name, conversation, tokenizer))]
    except Refused:
        parts = conversation.answers_apart()
        if len(parts) < 2:
            raise
        return [(part, expected(name, part, tokenizer)) for part in parts]


def expected_texts(name: str, conversation: Conversation) -> tuple[str, list[str]]:
    """The text up to the last learned answer, and each answer as it is learned."""
    parts = script(name, conversation)
    text, learned = "".join(part for part, _ in parts), _learned_spans(parts, conversation)
    return text[: learned[-1][1]], [text[start:stop] for start, stop in learned]


def _learned_spans(parts: Sequence[Part], conversation: Conversation) -> list[tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    at = 0
    for text, answer in parts:
        if answer is not None and conversation.messages[answer].train:
            found[answer] = (found.get(answer, (at, at))[0], at + len(text))
        at += len(text)
    return list(found.values())


def _encode(text: str, tokenizer) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(found["input_ids"]), list(found["offset_mapping"])


def _with_input(message: Message) -> Message:
    if not message.input:
        return message
    return replace(message, content=message.content + "\n\n" + message.input, input="")
