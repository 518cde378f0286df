"""Conversation -> Example, messages -> prompt ids: the only place that decides tokens and labels.

Text becomes tokens in one way, for training, evaluation, calibration, chat and serving alike:

1. The tokenizer's own chat template writes the conversation as text. Control tokens that stand
   inside somebody's message are hidden from the template behind placeholders.
2. The text is encoded; a placeholder is encoded as ordinary text. So what a person writes can
   neither end a turn nor open one.
3. An answer begins where the prompt ends that a server would render for it, whose ids must begin
   the ids of the whole conversation; it ends with the token that the template writes behind an
   answer. A template for which that fails is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from burnish.conversation import IGNORE_INDEX, Conversation, Example, Message
from burnish.errors import DataError, ModelError
from burnish.recipe import ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLAIN = (
    "{{% for message in messages %}}"
    "{{% if message['role'] == 'system' %}}{{{{ message['content'] + '\\n\\n' }}}}"
    "{{% elif message['role'] == 'user' %}}"
    "{{{{ '### {instruction}:\\n' + message['content'] + '\\n\\n' }}}}"
    "{{% if message['input'] %}}"
    "{{{{ '### {input}:\\n' + message['input'] + '\\n\\n' }}}}{{% endif %}}"
    "{{% elif message['role'] == 'assistant' %}}"
    "{{{{ '### {response}:\\n' + message['content'] + eos_token + '\\n\\n' }}}}"
    "{{% else %}}{{{{ raise_exception('it has no place for the role ' + message['role']) }}}}"
    "{{% endif %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '### {response}:\\n' }}}}{{% endif %}}"
)

PLAIN_TEMPLATES = {
    "plain_zh": _PLAIN.format(instruction="指令", input="输入", response="响应"),
    "plain_en": _PLAIN.format(instruction="Instruction", input="Input", response="Response"),
}
"""The guide's template and its English twin, for models that bring none."""


class NoAnswerLeft(DataError):
    """A conversation that loses all of its answers to max_length."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where one answer stands among the ids: [start, stop), its end-of-turn token included."""

    start: int
    stop: int


def load_tokenizer(folder: Path, section: ModelSection) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with the chat template that the recipe asks for.

    Raises:
        ModelError: there is no tokenizer there, or it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=section.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            str(folder),
            f"its tokenizer can't be loaded: {str(error).splitlines()[0]}",
            "Check that the folder holds tokenizer.json or the tokenizer's own files.",
        ) from None
    if tokenizer.eos_token_id is None:
        raise ModelError(
            str(folder),
            "its tokenizer has no end-of-sequence token, so no answer could ever end.",
            "Set eos_token in tokenizer_config.json.",
        )
    template = choose_template(tokenizer.chat_template, section.chat_template)
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def choose_template(own: str | None, wanted: str) -> str | None:
    """The template to put in place of the tokenizer's own, or None to keep that."""
    if wanted in PLAIN_TEMPLATES:
        return PLAIN_TEMPLATES[wanted]
    return None if own else PLAIN_TEMPLATES["plain_zh"]


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """`plain_zh`, `plain_en`, or `own` for a template that came with the model."""
    template = tokenizer.chat_template
    return next((name for name, text in PLAIN_TEMPLATES.items() if text == template), "own")


def render_prompt(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that a model is given to answer: the messages and the start of the answer.

    Raises:
        DataError: the chat template refuses these messages.
    """
    hidden = _Hidden(tokenizer)
    text = _render(hidden.cover(messages), tokenizer, add_generation_prompt=True)
    return hidden.encode(text)


def render_example(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example:
    """The token ids of a conversation, with labels on what the assistant says.

    Both lists have the same length, at most `max_length` tokens. A label is the token's own id
    where the assistant speaks, its end-of-turn token included, and IGNORE_INDEX elsewhere; labels
    are not shifted. An answer that does not fit is cut at its end; what stands behind the last
    answer that fits at least in part is left out.

    Raises:
        NoAnswerLeft: the cut leaves no token to learn from; the message names the raw row.
        DataError: the template can't be used; the message names the raw row.

    Source: Hugging Face transformers, "Chat templates".
    """
    try:
        input_ids, turns = _render_turns(conversation.messages, tokenizer)
    except DataError as error:
        raise DataError(conversation.origin, error.problem, error.remedy) from None
    answered = [turn for turn in turns if turn.start < max_length]
    if not answered:
        raise NoAnswerLeft(
            conversation.origin,
            f"max_length {max_length} cuts off the whole answer: "
            f"the prompt alone has {turns[0].start} tokens.",
            "Raise prepare.max_length, or shorten the question.",
        )
    labels = [IGNORE_INDEX] * len(input_ids)
    for turn in turns:
        labels[turn.start : turn.stop] = input_ids[turn.start : turn.stop]
    end = min(answered[-1].stop, max_length)
    return Example(input_ids[:end], labels[:end], conversation.origin, turns[-1].stop - end)


def _render_turns(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[Turn]]:
    hidden = _Hidden(tokenizer)
    covered = hidden.cover(messages)
    whole_text = _render(covered, tokenizer)
    whole = hidden.encode(whole_text)
    ends = _ends(tokenizer)
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        is_last = index == len(messages) - 1
        prompt_text = _render(covered[:index], tokenizer, add_generation_prompt=True)
        _check_begins(whole_text.startswith(prompt_text))
        prompt = hidden.encode(prompt_text)
        if whole[: len(prompt)] != prompt and is_last:
            # The first characters of the answer merge with the prompt's last token. The server's
            # prompt ends where the prompt ends, so the two are encoded apart.
            done = turns[-1].stop if turns else 0
            _check_begins(whole[:done] == prompt[:done])
            whole = prompt + hidden.encode(whole_text[len(prompt_text) :])
        _check_begins(whole[: len(prompt)] == prompt)
        end = ends.last if is_last or ends.early == ends.last else None
        if end is not None and end in whole[len(prompt) :]:
            stop = whole.index(end, len(prompt)) + 1
        elif is_last:
            stop = len(whole)
        else:
            spoken = hidden.encode(_render(covered[: index + 1], tokenizer))
            _check_begins(whole[: len(spoken)] == spoken)
            stop = len(spoken)
        turns.append(Turn(len(prompt), stop))
    return whole, turns


def _check_begins(holds: bool) -> None:
    if not holds:
        raise DataError(
            "chat template",
            "rendering up to an assistant turn does not begin the whole conversation, "
            "so the tokens of that turn can't be told apart.",
            "Split such rows into single turns, or choose model.chat_template: plain_en.",
        )


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the template's end-of-turn token and the tokenizer's eos."""
    last, eos = _ends(tokenizer).last, tokenizer.eos_token_id
    return [eos] if last is None or last == eos else [last, eos]


@dataclass(frozen=True, slots=True)
class _Ends:
    """The token that a template writes behind an early answer and behind the last one, if any."""

    early: int | None
    last: int | None


def _ends(tokenizer: PreTrainedTokenizerBase) -> _Ends:
    return _find_ends(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=8)
def _find_ends(tokenizer: PreTrainedTokenizerBase, template: str) -> _Ends:
    """Found by rendering a conversation whose answers are known.

    It counts as one where it is a token of its own, such as <|im_end|>. Some tokenizers do not
    mark it as special, and some templates close the conversation with an eos behind it, so that
    neither the last token nor the last special one would do.
    """
    answers = ("xyzzy", "plugh")
    probe = [Message("user", "a"), Message("assistant", answers[0])]
    probe += [Message("user", "b"), Message("assistant", answers[1])]
    try:
        text = _render(probe, tokenizer)
    except DataError:
        return _Ends(None, None)  # a template that wants more than questions and answers
    own = tokenizer.added_tokens_decoder
    found = []
    for answer in answers:
        ids = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
        found.append(next((token for token in ids if token in own), None))
    return _Ends(*found)


def joined_input(message: Message) -> str:
    """The message's text where a template knows no separate input: both, with a blank line."""
    return f"{message.content}\n\n{message.input}" if message.input else message.content


def _render(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, **options: bool
) -> str:
    plain = template_name(tokenizer) in PLAIN_TEMPLATES
    turns: list[dict[str, Any]] = [
        m.as_dict() if plain else {"role": m.role, "content": joined_input(m)} for m in messages
    ]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, **options)  # type: ignore
    except TemplateError as error:
        roles = ", ".join(m.role for m in messages)
        raise DataError(
            "chat template",
            f"the model's chat template refuses these messages ({roles}): {error}",
            "Remove the system prompt or reorder the turns; many templates want user and "
            "assistant in turn.",
        ) from None


def _control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ends = _ends(tokenizer)
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    known = [*special, *tokenizer.all_special_ids, ends.early, ends.last]
    return frozenset(token for token in known if token is not None)


def _control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    return _find_pattern(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=8)
def _find_pattern(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str]:
    names = tokenizer.convert_ids_to_tokens(sorted(_control_ids(tokenizer)))
    ordered = sorted((n for n in names if n.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")


class _Hidden:
    """Keeps the control tokens that stand inside messages out of the template's sight."""

    # Private-use characters: no real text holds them, and no tokenizer has a token of theirs.
    _OPEN, _CLOSE = "\ue0f0", "\ue0f1"
    _MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._texts: list[str] = []
        self._control = _control_pattern(tokenizer)

    def cover(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with a placeholder for each control token in them."""
        return [Message(m.role, self._cover(m.content), self._cover(m.input)) for m in messages]

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

    def _cover(self, text: str) -> str:
        text = text.replace(self._OPEN, "").replace(self._CLOSE, "")
        return self._control.sub(self._hide, text)

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
