"""The tokens that end what the assistant says, found by rendering conversations that are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.rendering.writing import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS = ("xyzzy", "plugh")
"""What the assistant says in the probe."""
QUESTIONS = ("garply", "waldo")
"""What the user says there."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The token, if any, that a template writes behind what the assistant says.

    Attributes:
        early: behind an answer that others follow.
        last: behind the last answer.
        call: behind a call of a tool.
        opener: what opens the user's next turn, where the template writes nothing between that and
            an answer, as ChatGLM4's does; it ends the answer then.
    """

    early: int | None = None
    last: int | None = None
    call: int | None = None
    opener: int | None = None

    @property
    def within(self) -> int | None:
        """What surely ends an answer within a conversation: the token behind all answers."""
        return self.early if self.early == self.last else None

    def behind(self, message: Message, *, is_last: bool) -> int | None:
        """What ends this message of the assistant, where that is the token behind all answers."""
        if is_last:
            return self.last
        if message.tool_calls:
            return self.within if self.call == self.within else None
        return self.within


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer.

    They are the template's end-of-turn token, what it writes behind a call, and the tokenizer's
    eos; and what opens the user's next turn, where nothing else ends an answer before it.
    """
    ends = ends_of(tokenizer)
    found = (ends.last, ends.opener, ends.call, tokenizer.eos_token_id)
    return list(dict.fromkeys(token for token in found if token is not None))


def ends_of(tokenizer: PreTrainedTokenizerBase) -> Ends:
    """The end tokens of a tokenizer's chat template."""
    return _find_ends(tokenizer, str(tokenizer.chat_template))


def write_probe(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Two questions with their answers as the template writes them; None where it wants more."""
    (asked, again), (answer, last) = QUESTIONS, ANSWERS
    probe = [Message("user", asked), Message("assistant", answer)]
    probe += [Message("user", again), Message("assistant", last)]
    try:
        return write_text(probe, tokenizer)
    except DataError:
        return None


@lru_cache(maxsize=8)
def _find_ends(tokenizer: PreTrainedTokenizerBase, template: str) -> Ends:
    """An end counts as one where it is a token of its own, such as <|im_end|>.

    Some tokenizers do not mark it as special, and some templates close the conversation with an
    eos behind it, so that neither the last token nor the last special one would do. Where several
    such tokens follow one another (Command R), it is the last of those behind every answer, but
    none that the text begins with: some templates (Command A) always open the next turn.
    """
    text = write_probe(tokenizer)
    if text is None:
        return Ends()
    early, last = (
        _run_of_tokens(tokenizer, text.rpartition(answer)[2].partition(QUESTIONS[1])[0])
        for answer in ANSWERS
    )
    both = [
        a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(early, last, strict=False))
    ]
    if both:
        named = {tokenizer.bos_token_id, tokenizer.eos_token_id}
        openers = {*_run_of_tokens(tokenizer, text)} - named
        within = [both[0], *takewhile(lambda token: token not in openers, both[1:])][-1]
        return Ends(within, within, _find_call_end(tokenizer, within))
    first, end = next(iter(early), None), next(iter(last), None)
    opens = first in _ids(tokenizer, text.partition(QUESTIONS[0])[0])
    call = _find_call_end(tokenizer, None)
    return Ends(None, end, call, opener=first) if opens else Ends(first, end, call)


def _run_of_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The first tokens of their own in a text that follow one another directly."""
    own, ids = tokenizer.added_tokens_decoder, _ids(tokenizer, text)
    start = next((i for i, token in enumerate(ids) if token in own), len(ids))
    return list(takewhile(lambda token: token in own, ids[start:]))


def _find_call_end(tokenizer: PreTrainedTokenizerBase, within: int | None) -> int | None:
    """The token behind a call: that behind all answers, or another special one.

    It stands behind the last of two calls and not behind the first, where the template takes two.
    """
    written = _write_calls(tokenizer, 2) or _write_calls(tokenizer, 1)
    if written is None:
        return None
    called, whole = written
    behind = _ids(tokenizer, whole.rpartition("waldo")[2].partition("garply")[0])
    if within in behind:
        return within
    own = tokenizer.added_tokens_decoder
    syntax = _ids(tokenizer, called.rpartition("waldo")[0])
    special = [t for t in behind if t in own and own[t].special and t not in syntax]
    closing = _ids(tokenizer, called.rpartition("waldo")[2])
    return next((t for t in reversed(special) if t in closing), next(iter(special), None))


def _write_calls(tokenizer: PreTrainedTokenizerBase, count: int) -> tuple[str, str] | None:
    """A conversation up to its calls, and up to an answer to their results."""
    function = {"name": "xyzzy", "description": "", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    calls = ({"name": "xyzzy", "arguments": {"plugh": "waldo"}},) * count
    probe = [Message("user", "a"), Message("assistant", "", tool_calls=calls)]
    probe += [Message("tool", "garply")] * count + [Message("assistant", "fred")]
    try:
        called = write_text(probe[:2], tokenizer, tools=tools)
        whole = write_text(probe, tokenizer, tools=tools)
    except DataError:
        return None  # a template that knows no tools, or wants more than this
    return (called, whole) if called.count("waldo") == count else None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
