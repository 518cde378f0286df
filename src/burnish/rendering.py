"""Conversation -> Example, messages -> prompt ids: the only place that decides tokens and labels.

Text becomes tokens in one way, for training, evaluation, calibration, chat and serving alike:

1. The tokenizer's own chat template writes the conversation as text. Control tokens that stand
   inside somebody's message are hidden from the template behind placeholders.
2. The text is encoded; a placeholder is encoded as ordinary text. So what a person writes can
   neither end a turn nor open one.
3. What the assistant says is found by rendering the conversation up to that turn, once with the
   generation prompt and once with the answer, and checking that the ids of the first begin the
   ids of the second. A template for which that fails is refused, never guessed.
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
    "{{% if message['input'] %}}{{{{ '### {input}:\\n' + message['input'] + '\\n\\n' }}}}{{% endif %}}"
    "{{% else %}}{{{{ '### {response}:\\n' + message['content'] + eos_token + '\\n\\n' }}}}"
    "{{% endif %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '### {response}:\\n' }}}}{{% endif %}}"
)

PLAIN_TEMPLATES = {
    "plain_zh": _PLAIN.format(instruction="指令", input="输入", response="响应"),
    "plain_en": _PLAIN.format(instruction="Instruction", input="Input", response="Response"),
}
"""The guide's template and its English twin, for models that bring none."""


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
    return tokenizer  # type: ignore[no-any-return]


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
    are not shifted. An answer that does not fit is cut at its end.

    Raises:
        DataError: the cut leaves no token to learn from, or the template can't be used; the
            message names the raw row.

    Source: Hugging Face transformers, "Chat templates".
    """
    try:
        input_ids, turns = _render_turns(conversation.messages, tokenizer)
    except DataError as error:
        raise DataError(conversation.origin, error.problem, error.remedy) from None
    labels = [IGNORE_INDEX] * len(input_ids)
    for turn in turns:
        labels[turn.start : turn.stop] = input_ids[turn.start : turn.stop]
    end = turns[-1].stop
    num_cut = max(0, end - max_length)
    end = min(end, max_length)
    if all(label == IGNORE_INDEX for label in labels[:end]):
        raise DataError(
            conversation.origin,
            f"max_length {max_length} cuts off the whole answer: "
            f"the prompt alone has {turns[0].start} tokens.",
            "Raise prepare.max_length, or shorten the question.",
        )
    return Example(input_ids[:end], labels[:end], conversation.origin, num_cut)


def _render_turns(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[Turn]]:
    hidden = _Hidden(tokenizer)
    covered = hidden.cover(messages)
    whole_text = _render(covered, tokenizer)
    whole = hidden.encode(whole_text)
    turns = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        prompt_text = _render(covered[:index], tokenizer, add_generation_prompt=True)
        spoken_text = _render(covered[: index + 1], tokenizer)
        prompt, spoken = hidden.encode(prompt_text), hidden.encode(spoken_text)
        if whole[: len(prompt)] != prompt or whole[: len(spoken)] != spoken:
            if not whole_text.startswith(prompt_text):
                raise DataError(
                    "chat template",
                    "rendering up to an assistant turn does not begin the whole conversation, "
                    "so the tokens of that turn can't be told apart.",
                    "Train on the last turn alone, or choose model.chat_template: plain_en.",
                )
            # The first characters of the answer merge with the prompt's last token. The server's
            # prompt ends where the prompt ends, so the two are encoded apart.
            rest = hidden.encode(whole_text[len(prompt_text) :])
            if message is not messages[-1]:
                raise DataError(
                    "chat template",
                    "a token spans the border between prompt and answer in an early turn.",
                    "Begin no answer with white space, or train on single turns.",
                )
            whole, spoken = prompt + rest, prompt + rest
        turns.append(Turn(len(prompt), _end_of_turn(spoken, len(prompt), tokenizer)))
    return whole, turns


def _end_of_turn(ids: list[int], start: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """One past the last control token of an answer (its stop token), or past its last token.

    What a template writes behind the stop token, mostly a line break, is never generated and so
    carries no loss.
    """
    control = _control_ids(tokenizer)
    for position in range(len(ids) - 1, start - 1, -1):
        if ids[position] in control:
            return position + 1
    return len(ids)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the template's end-of-turn token and the tokenizer's eos."""
    probe = (Message("user", "a"), Message("assistant", "b"))
    ids, turns = _render_turns(probe, tokenizer)
    last = ids[turns[-1].stop - 1]
    stops = [last] if last in _control_ids(tokenizer) else []
    return [*stops, *([tokenizer.eos_token_id] if tokenizer.eos_token_id not in stops else [])]


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


@lru_cache(maxsize=8)
def _control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(special | set(tokenizer.all_special_ids))


@lru_cache(maxsize=8)
def _control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
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
                ids += self._ids(self._texts[int(piece)], split_special_tokens=True)
            elif piece:
                ids += self._ids(piece)
        return ids

    def _cover(self, text: str) -> str:
        text = text.replace(self._OPEN, "").replace(self._CLOSE, "")
        return self._control.sub(self._hide, text)

    def _hide(self, found: re.Match[str]) -> str:
        self._texts.append(found.group())
        return f"{self._OPEN}{len(self._texts) - 1}{self._CLOSE}"

    def _ids(self, text: str, **options: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, **options)["input_ids"])
