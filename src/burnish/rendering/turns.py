"""Where the answers of a conversation stand among its ids, proved for each conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.rendering.boundaries import hidden_for, reasoning_marks
from burnish.rendering.endings import ends_of
from burnish.rendering.reasoning import answer_behind, loses_reasoning
from burnish.rendering.witnesses import Answer, Span, check_marks, find_said
from burnish.rendering.writing import write_generated, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Turn:
    """Where one answer stands among the ids: [start, stop), its end-of-turn token included."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Proved:
    """An answer that was found: among the ids, and in the text."""

    index: int
    turn: Turn
    answer: Answer


def find_turns(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[Turn]]:
    """The ids of a conversation, and the answers in it that are to be learned, in order.

    Raises:
        DataError: the chat template refuses the conversation, or an answer can't be proved.
    """
    written = _Written(conversation, tokenizer)
    indices = [i for i, m in enumerate(written.messages) if m.role == "assistant" and m.train]
    if not indices:
        return written.ids, []
    try:
        proved = _prove_all(written, indices)
    except DataError as error:
        remedy = _remedy(conversation, tokenizer, indices) or error.remedy
        raise DataError(error.where, written.readable(error.problem), remedy) from None
    return written.ids, [each.turn for each in proved]


def _prove_all(written: _Written, indices: Sequence[int]) -> list[_Proved]:
    proved: list[_Proved] = []
    if indices == [len(written.messages) - 1]:
        written.complete()
    for index in indices:
        proved.append(written.prove(index, proved[-1].turn.stop if proved else 0))
    _check_witnesses(written, proved)
    return proved


def _remedy(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, indices: Sequence[int]
) -> str | None:
    """What would make a conversation provable, tried out."""
    if len(indices) > 1 and _is_provable(conversation, tokenizer, indices[-1:]):
        return "Set prepare.train_on: last to learn the last answer of each row only."
    first, *rest = conversation.messages
    if first.role == "system":
        without = replace(conversation, messages=tuple(rest))
        if _is_provable(without, tokenizer, [index - 1 for index in indices]):
            return (
                "Put the text of the system prompt into the question: this template writes it at "
                "another place once an answer follows."
            )
    return None


def _is_provable(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, indices: Sequence[int]
) -> bool:
    try:
        _prove_all(_Written(conversation, tokenizer), indices)
    except DataError:
        return False
    return True


class _Written:
    """One conversation as a template writes it, whole and up to each answer."""

    def __init__(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden_for(tokenizer)
        self._ends = ends_of(tokenizer)
        self.messages: list[Message] = [self._hidden.cover(m) for m in conversation.messages]
        self._tools: list[dict[str, Any]] = self._hidden.cover(conversation.tools)
        self.text = self._write(self.messages)
        self.ids = self._hidden.encode(self.text)
        self._prompts: dict[int, str] = {}
        self._is_composed = False

    @property
    def marks(self) -> list[Span] | None:
        """What stands between the template's `{% generation %}` marks, where it has them.

        None, too, where the text is not as the template alone writes it.
        """
        return None if self._is_composed else self._generated

    @cached_property
    def _generated(self) -> list[Span] | None:
        return write_generated(self.messages, self._tokenizer, self._tools)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Whose chat template writes."""
        return self._tokenizer

    def _write(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        return write_text(
            messages,
            self._tokenizer,
            tools=self._tools,
            add_generation_prompt=add_generation_prompt,
        )

    def _prompt(self, index: int) -> str:
        """What a server would render for the answer of that index."""
        if index not in self._prompts:
            asked = self.messages[:index]
            self._prompts[index] = self._write(asked, add_generation_prompt=True)
        return self._prompts[index]

    def readable(self, text: str) -> str:
        """A text with messages as they were given."""
        return self._hidden.uncover(text)

    def opening_of(self, index: int) -> int:
        """Up to where the text is the same without the opening of the answer."""
        return _common_length(self._write(self.messages[:index]), self.text)

    def complete(self) -> None:
        """Writes the last answer behind its prompt where the template writes it behind another.

        Prompt and answer are the template's own then, each from where it writes it; nothing is
        changed where the prompt begins the conversation already, or where it stays unclear.
        """
        message, prompt = self.messages[-1], self._prompt(len(self.messages) - 1)
        begins = self.text.startswith(prompt)
        if begins and not loses_reasoning(message, self.text[len(prompt) :]):
            return
        found = answer_behind(prompt, self.text, message, self._tokenizer)
        if found is None and not begins:
            found = self._without_system(prompt)
        if found is None:
            return
        self._check_marks_hold(message.content)
        answer, self.messages[-1] = found
        self.text, self._is_composed = prompt + answer, True
        self.ids = self._hidden.encode(self.text)

    def _without_system(self, prompt: str) -> tuple[str, Message] | None:
        """The answer as the template writes it in the same conversation without a system prompt.

        Templates of Mistral from v3 put that prompt into the last question, and only as long as
        nothing answers it. Both prompts must end alike.
        """
        first, *asked, message = self.messages
        if first.role != "system" or not asked or first.content.strip() not in prompt:
            return None
        try:
            bare = self._write(asked, add_generation_prompt=True)
            whole = self._write([*asked, message])
        except DataError:
            return None
        said = asked[-1].content.strip()
        at = bare.rfind(said) if said else -1
        if at < 0 or prompt == bare or not prompt.endswith(bare[at:]):
            return None
        if not whole.startswith(bare):
            return None
        return whole[len(bare) :], message

    def _check_marks_hold(self, words: str) -> None:
        """Checks that the template's marks, where it has any, hold an answer that it writes."""
        at = self.text.rfind(words.strip())
        if self._generated is not None and words.strip() and at >= 0:
            check_marks(self.text, [(at, at + len(words.strip()))], [], self._generated)

    def prove(self, index: int, done: int) -> _Proved:
        """Finds an answer of which the prompt's ids begin the whole.

        Args:
            index: which message it is.
            done: up to where the ids belong to earlier answers that were proved.
        """
        is_last = index == len(self.messages) - 1
        prompt_text = self._prompt(index)
        if not self.text.startswith(prompt_text):
            raise _differs(index, prompt_text, self.text)
        prompt = self._hidden.encode(prompt_text)
        if self.ids[: len(prompt)] != prompt:
            # The first characters of the answer merge with the prompt's last token. The server's
            # prompt ends where the prompt ends, so the two are encoded apart.
            if not is_last or self.ids[:done] != prompt[:done]:
                raise _merges(index)
            self.ids = prompt + self._hidden.encode(self.text[len(prompt_text) :], goes_on=True)
        stop, text_stop = self._find_stop(index, len(prompt), len(prompt_text))
        answer = Answer(self.messages[index], len(prompt_text), text_stop)
        return _Proved(index, Turn(len(prompt), stop), answer)

    def _find_stop(self, index: int, start: int, text_start: int) -> tuple[int, int]:
        """Where the answer that starts there stops, among the ids and in the text."""
        message, is_last = self.messages[index], index == len(self.messages) - 1
        end, turn = self._ends.behind(message, is_last=is_last), self.ids[start:]
        if end is not None and end in turn:
            if is_last and message.tool_calls and turn.count(end) > 1:
                # Whatever stands behind the end of the last turn is dropped; no call may be.
                raise DataError(
                    "chat template",
                    "it writes a call as several turns, so their tokens can't be told apart.",
                    "Leave such rows out, or choose a model with another chat template.",
                )
            name = str(self._tokenizer.convert_ids_to_tokens(end))
            before, found, _ = self.text[text_start:].partition(name)
            return start + turn.index(end) + 1, text_start + len(before) + len(found)
        if is_last:
            return len(self.ids), len(self.text)
        so_far_text = self._write(self.messages[: index + 1])
        if self._ends.opener is not None and self._ends.last is not None:
            # What stands behind the last answer alone is no part of this one.
            name = str(self._tokenizer.convert_ids_to_tokens(self._ends.last))
            so_far_text = so_far_text.removesuffix(name)
        so_far = self._hidden.encode(so_far_text)
        if self.ids[: len(so_far)] != so_far:
            raise _differs(index, so_far_text, self.text)
        stop, text_stop = len(so_far), len(so_far_text)
        if not self._opens_next(index, stop):
            return stop, text_stop
        name = str(self._tokenizer.convert_ids_to_tokens(self.ids[stop]))
        return stop + 1, self.text.index(name, text_stop) + len(name)

    def _opens_next(self, index: int, stop: int) -> bool:
        """Whether the token there ends the answer because it opens somebody else's turn."""
        if self._ends.opener is None or self.messages[index + 1].role == "assistant":
            return False
        token = self._tokenizer.added_tokens_decoder.get(self.ids[stop])
        return token is not None and (token.special or self.ids[stop] == self._ends.opener)


def _check_witnesses(written: _Written, proved: Sequence[_Proved]) -> None:
    parts = reasoning_marks(written.tokenizer)
    said = [span for each in proved for span in find_said(each.answer, written.text, parts)]
    if written.marks is None:
        return
    outside: list[Span] = []
    if len(proved) == sum(m.role == "assistant" for m in written.messages):
        ends = [0, *(each.answer.stop for each in proved)]
        outside = [(end, written.opening_of(p.index)) for end, p in zip(ends, proved, strict=False)]
    check_marks(written.text, said, outside, written.marks)


def _differs(index: int, prompt: str, whole: str) -> DataError:
    at = _common_length(prompt, whole)
    return DataError(
        "chat template",
        f"rendering up to an assistant turn (message {index + 1}) does not begin the whole "
        f"conversation, so the tokens of that turn can't be told apart: a server would go on with "
        f"{prompt[at : at + 30]!r} where the whole has {whole[at : at + 30]!r}.",
        "Give the model a chat template whose prompts begin as its conversations do, or set "
        "model.chat_template: plain_en.",
    )


def _merges(index: int) -> DataError:
    return DataError(
        "chat template",
        f"rendering up to an assistant turn (message {index + 1}) does not begin the whole "
        "conversation, because the tokenizer merges its first characters with what stands before "
        "it.",
        "Take white space off the beginnings of such answers, or split them into single turns.",
    )


def _common_length(one: str, other: str) -> int:
    """How many characters two texts have in common from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
