"""Conversation -> Example, messages -> prompt ids: the only place that decides tokens and labels.

Text becomes tokens in one way, for training, evaluation, calibration, chat and serving alike:

1. The tokenizer's own chat template writes the conversation as text. Control tokens that stand
   inside somebody's message are hidden from the template behind placeholders.
2. The text is encoded; a placeholder is encoded as ordinary text. So what a person writes can
   neither end a turn nor open one.
3. An answer begins where the prompt ends that a server would render for it, whose ids must begin
   the ids of the whole conversation; it ends with the token that the template writes behind an
   answer. A template for which that fails is refused, never guessed.

A passage of plain text has no template: bos, where the tokenizer writes one, the text, and eos.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from burnish.conversation import IGNORE_INDEX, Conversation, Example, Message
from burnish.errors import DataError, ModelError
from burnish.recipe import ModelSection
from burnish.templates.control_tokens import Hidden, pattern_of
from burnish.templates.plain import PLAIN_TEMPLATES, choose_template, template_name
from burnish.templates.tool_marks import mark_tools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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


def render_prompt(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tools: Sequence[dict[str, Any]] = (),
) -> list[int]:
    """The ids that a model is given to answer: the messages and the start of the answer.

    Raises:
        DataError: the chat template refuses these messages, or does not write their tools.
    """
    _check_tools_are_written(messages, tools, tokenizer)
    hidden = _hidden(tokenizer)
    covered, covered_tools = hidden.cover(messages), hidden.cover(tools)
    text = _render(covered, tokenizer, tools=covered_tools, add_generation_prompt=True)
    return hidden.encode(text)


def render_example(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example:
    """The token ids of a conversation, with labels on what the assistant says.

    Both lists have the same length, at most `max_length` tokens. A label is the token's own id
    where the assistant speaks, its end-of-turn token included, and IGNORE_INDEX elsewhere; labels
    are not shifted. An answer that does not fit is cut at its end; what stands behind the last
    answer that fits at least in part is left out. Of a passage of plain text all is learned.

    Raises:
        NoAnswerLeft: the cut leaves no token to learn from; the message names the raw row.
        DataError: the template can't be used; the message names the raw row.

    Source: Hugging Face transformers, "Chat templates".
    """
    if conversation.messages[0].role == "text":
        return _render_passage(conversation, tokenizer, max_length)
    try:
        input_ids, turns = _render_turns(conversation, tokenizer)
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


def _render_passage(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example:
    hidden = _hidden(tokenizer)
    bos = tokenizer.bos_token_id
    begin = [bos] if bos is not None and tokenizer("a")["input_ids"][0] == bos else []
    learned = [*hidden.encode(hidden.cover(conversation.answer)), tokenizer.eos_token_id]
    input_ids = [*begin, *learned][:max_length]
    labels = [*(IGNORE_INDEX for _ in begin), *learned][:max_length]
    num_cut = len(begin) + len(learned) - len(input_ids)
    return Example(input_ids, labels, conversation.origin, num_cut)


def _render_turns(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[Turn]]:
    messages, tools = conversation.messages, conversation.tools
    _check_tools_are_written(messages, tools, tokenizer)
    hidden = _hidden(tokenizer)
    covered = hidden.cover(messages)
    write = partial(_render, tokenizer=tokenizer, tools=hidden.cover(tools))
    whole_text = write(covered)
    whole = hidden.encode(whole_text)

    def spoken(count: int) -> list[int]:
        return hidden.encode(write(covered[:count]))

    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        is_last = index == len(messages) - 1
        prompt_text = write(covered[:index], add_generation_prompt=True)
        _check_begins(whole_text.startswith(prompt_text))
        prompt = hidden.encode(prompt_text)
        if whole[: len(prompt)] != prompt and is_last:
            # The first characters of the answer merge with the prompt's last token. The server's
            # prompt ends where the prompt ends, so the two are encoded apart.
            done = turns[-1].stop if turns else 0
            _check_begins(whole[:done] == prompt[:done])
            whole = prompt + hidden.encode(whole_text[len(prompt_text) :])
        _check_begins(whole[: len(prompt)] == prompt)
        until_here = None if is_last else partial(spoken, index + 1)
        stop = _stop(whole, len(prompt), message, until_here, _ends(tokenizer))
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


def _stop(
    whole: list[int],
    start: int,
    message: Message,
    spoken: Callable[[], list[int]] | None,
    ends: _Ends,
) -> int:
    """Where the turn that starts at `start` stops; `spoken`, None for the last one, renders it."""
    is_last = spoken is None
    end = ends.last if is_last else ends.call if message.tool_calls else ends.within
    turn = whole[start:]
    if end is not None and end in turn:
        # Whatever stands behind the end of the last turn is dropped; that may not be a call.
        _check_begins(not is_last or not message.tool_calls or turn.count(end) == 1)
        return start + turn.index(end) + 1
    if spoken is None:
        return len(whole)
    so_far = spoken()
    _check_begins(whole[: len(so_far)] == so_far)
    return len(so_far)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the template's end-of-turn token and the tokenizer's eos."""
    last, eos = _ends(tokenizer).last, tokenizer.eos_token_id
    return [eos] if last is None or last == eos else [last, eos]


@dataclass(frozen=True, slots=True)
class _Ends:
    """The token, if any, that a template writes behind what the assistant says.

    Attributes:
        early: behind an answer that others follow.
        last: behind the last answer.
        call: behind a call, where that is the token behind all answers.
    """

    early: int | None
    last: int | None
    call: int | None = None

    @property
    def within(self) -> int | None:
        """What surely ends an answer within a conversation: the token behind all answers."""
        return self.early if self.early == self.last else None


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
    ends = _Ends(*found)
    return replace(ends, call=ends.within if _ends_calls(tokenizer, ends.within) else None)


def _ends_calls(tokenizer: PreTrainedTokenizerBase, end: int | None) -> bool:
    """Whether this token stands between a call and the message behind it."""
    function = {"name": "xyzzy", "description": "", "parameters": {"type": "object"}}
    call = {"name": "xyzzy", "arguments": {"plugh": "waldo"}}
    probe = [Message("user", "a"), Message("assistant", "", tool_calls=(call,))]
    probe += [Message("tool", "garply"), Message("assistant", "fred")]
    try:
        text = _render(probe, tokenizer, tools=[{"type": "function", "function": function}])
    except DataError:
        return False  # a template that knows no tools, or wants more than this
    between = text.rpartition("waldo")[2].partition("garply")[0]
    return end in tokenizer(between, add_special_tokens=False)["input_ids"]


def joined_input(message: Message) -> str:
    """The message's text where a template knows no separate input: both, with a blank line."""
    return f"{message.content}\n\n{message.input}" if message.input else message.content


def _render(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tools: Sequence[dict[str, Any]] = (),
    add_generation_prompt: bool = False,
) -> str:
    plain = template_name(tokenizer) in PLAIN_TEMPLATES
    own = messages if plain else [replace(m, content=joined_input(m), input="") for m in messages]
    try:
        text = tokenizer.apply_chat_template(
            [m.as_dict() for m in own],
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(m.role for m in messages)
        raise DataError(
            "chat template",
            f"the model's chat template refuses these messages ({roles}): {error}",
            "Remove the system prompt or reorder the turns; many templates want user and "
            "assistant in turn.",
        ) from None
    return str(text)


def _check_tools_are_written(
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    marked = mark_tools(messages, tools)
    if not marked.words:
        return
    lacking = marked.not_in(_render(marked.messages, tokenizer, tools=marked.tools))
    if lacking is not None:
        raise DataError(
            "chat template",
            f"this chat template does not write {lacking}.",
            "Choose a model whose chat template does, or leave such rows out.",
        )


def _hidden(tokenizer: PreTrainedTokenizerBase) -> Hidden:
    return Hidden(tokenizer, _control_pattern(tokenizer, str(tokenizer.chat_template)))


@lru_cache(maxsize=8)
def _control_pattern(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str]:
    ends = _find_ends(tokenizer, template)
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    known = {*special, *tokenizer.all_special_ids, ends.early, ends.last} - {None}
    return pattern_of(tokenizer.convert_ids_to_tokens(sorted(known)))
