"""Conversation -> Example, messages -> prompt ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from burnish.conversation import IGNORE_INDEX, Conversation, Example, Message, TrainOn
from burnish.errors import DataError
from burnish.rendering.boundaries import hidden_for
from burnish.rendering.turns import find_turns
from burnish.rendering.writing import write_text
from burnish.templates.tool_marks import mark_tools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class NoAnswerLeft(DataError):
    """A conversation in which no token is left to learn from."""


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
    hidden = hidden_for(tokenizer)
    covered, covered_tools = hidden.cover(messages), hidden.cover(tools)
    text = write_text(covered, tokenizer, tools=covered_tools, add_generation_prompt=True)
    return hidden.encode(text)


def render_example(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example:
    """The token ids of a conversation, with labels on what the assistant says.

    Both lists have the same length, at most `max_length` tokens. A label is the token's own id
    where the assistant speaks, its end-of-turn token included, and IGNORE_INDEX elsewhere, also
    in messages with `train` false; labels are not shifted. An answer that does not fit is cut at
    its end; what stands behind the last answer that fits at least in part is left out. Of a
    passage of plain text all is learned.

    Raises:
        NoAnswerLeft: there is no token to learn from; the message names the raw row.
        DataError: the template can't be used; the message names the raw row.

    Source: Hugging Face transformers, "Chat templates".
    """
    if conversation.messages[0].role == "text":
        return _render_passage(conversation, tokenizer, max_length)
    try:
        _check_tools_are_written(conversation.messages, conversation.tools, tokenizer)
        input_ids, turns = find_turns(conversation, tokenizer)
    except DataError as error:
        raise DataError(conversation.origin, error.problem, error.remedy) from None
    if not turns:
        raise NoAnswerLeft(
            conversation.origin,
            "no answer of this row is to be learned: all have train: false.",
            "Set train: true (weight: 1) for one of its assistant messages.",
        )
    if all(turn.start == turn.stop for turn in turns):
        raise NoAnswerLeft(
            conversation.origin,
            "its answers are empty, and the chat template writes nothing behind them.",
            "Leave such rows out, or set model.end_of_answer: eos.",
        )
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


def render_row(
    conversation: Conversation,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    train_on: TrainOn = "all",
) -> list[tuple[Conversation, Example | DataError]]:
    """What a row is learned as: conversations, each with its example or why there is none.

    Mostly it is one conversation. With `each` it is one for every answer, which ends with that
    answer. With `all` it is so, too, where the answers can't be proved within one text and can be
    one by one: many templates write earlier answers otherwise than the last, so that a server asks
    for each behind another text. Every answer is learned once in either case.
    """
    whole = conversation.trained_on(train_on)
    apart = whole.answers_apart()
    if train_on == "each" and apart:
        return [(part, _attempt(part, tokenizer, max_length)) for part in apart]
    found = _attempt(whole, tokenizer, max_length)
    if not _is_refused(found) or len(apart) < 2:
        return [(whole, found)]
    parts = [(part, _attempt(part, tokenizer, max_length)) for part in apart]
    return [(whole, found)] if any(_is_refused(each) for _, each in parts) else parts


def _attempt(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example | DataError:
    try:
        return render_example(conversation, tokenizer, max_length)
    except DataError as error:
        return error


def _is_refused(found: Example | DataError) -> bool:
    """Whether the template can't be used; that an answer does not fit is another matter."""
    return isinstance(found, DataError) and not isinstance(found, NoAnswerLeft)


def _render_passage(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example:
    hidden = hidden_for(tokenizer)
    bos = tokenizer.bos_token_id
    begin = [bos] if bos is not None and tokenizer("a")["input_ids"][0] == bos else []
    learned = [*hidden.encode(hidden.cover(conversation.answer)), tokenizer.eos_token_id]
    input_ids = [*begin, *learned][:max_length]
    labels = [*(IGNORE_INDEX for _ in begin), *learned][:max_length]
    num_cut = len(begin) + len(learned) - len(input_ids)
    return Example(input_ids, labels, conversation.origin, num_cut)


def _check_tools_are_written(
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    marked = mark_tools(messages, tools)
    if not marked.words:
        return
    lacking = marked.not_in(write_text(marked.messages, tokenizer, tools=marked.tools))
    if lacking is not None:
        raise DataError(
            "chat template",
            f"this chat template does not write {lacking}.",
            "Choose a model whose chat template does, or leave such rows out.",
        )
