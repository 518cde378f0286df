"""The block in which a model thinks before it answers, where prompt and template disagree on it.

The prompts of reasoning models open the block (`<think>`), or write an empty one. Many templates
leave the block out of conversations, since a server does not send old reasoning back. What a model
must write behind such a prompt is: the rest of the block, what closes it, and the answer.

Source: the chat templates of DeepSeek-R1, QwQ, GLM-4.7, MiniMax-M2 and Nemotron 3. An empty block
for answers without reasoning is what Qwen3's template writes, and LLaMA-Factory for such models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.rendering.endings import ANSWERS, QUESTIONS
from burnish.rendering.writing import write_text
from burnish.templates.control_tokens import REASONING_MARKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Block:
    """A block of reasoning that a prompt ends with.

    Attributes:
        start: where it begins in the prompt.
        mark: what opens it, such as `<think>`.
        is_open: whether the model is to go on with it; else the prompt closes it, too.
    """

    start: int
    mark: str
    is_open: bool


def block_at_end(prompt: str) -> Block | None:
    """The block of reasoning that a prompt ends with, if it does."""
    for mark, close in REASONING_MARKS.items():
        found = re.search(rf"({re.escape(mark)})?\s*({re.escape(close)})?\s*\Z", prompt)
        if found and (found[1] or found[2]):
            return Block(found.start(), mark, is_open=found[2] is None)
    return None


def loses_reasoning(message: Message, written: str) -> bool:
    """Whether an answer holds a block of reasoning that was not written."""
    return any(
        close in message.content and close not in written for close in REASONING_MARKS.values()
    )


def answer_behind(
    prompt: str, whole: str, message: Message, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, Message] | None:
    """What a model must write behind a prompt, from what the template makes of the whole.

    Args:
        prompt: what a server renders for the answer.
        whole: the conversation up to its end, of which this answer is the last message.
        message: the answer.
        tokenizer: whose template tells what closes a block.

    Returns:
        The text, with what ends the answer, and the message without what the prompt holds of it.
        None where it can't be told: the two differ in more than the block, or the prompt closes a
        block that the answer would fill.
    """
    block = block_at_end(prompt)
    base = prompt if block is None else prompt[: block.start]
    if not whole.startswith(base):
        return None
    if any(close in message.content for close in REASONING_MARKS.values()):
        return _with_own_block(whole[len(base) :], message, block)
    if block is None or (message.reasoning_content and not block.is_open):
        return None
    written = _without_block(whole[len(base) :], block.mark)
    if not _begins_with(written, message.content, message):
        return None
    closed = _closing(tokenizer, str(tokenizer.chat_template), block.mark) if block.is_open else ""
    return message.reasoning_content.strip() + closed + written, message


def _with_own_block(
    written: str, message: Message, block: Block | None
) -> tuple[str, Message] | None:
    """The answer as the row has it, block and all, with what the template writes behind it."""
    mark = next(m for m, close in REASONING_MARKS.items() if close in message.content)
    if block is not None and not (block.is_open and block.mark == mark):
        return None
    words = message.content.rpartition(REASONING_MARKS[mark])[2].strip()
    written = _without_block(written, mark).lstrip()
    if not _begins_with(written, words, message):
        return None
    own = message.content.strip()
    if block is not None:
        own = own.removeprefix(mark).lstrip()
    return own + written[len(words) :], replace(message, content=own)


def _begins_with(written: str, words: str, message: Message) -> bool:
    """Whether the answer's words come first; an answer of nothing but calls has none."""
    return written.lstrip().startswith(words.strip()) and bool(words.strip() or message.tool_calls)


def _without_block(written: str, mark: str) -> str:
    """What an answer says behind the block that it begins with, or only the end of which."""
    close = REASONING_MARKS[mark]
    if not written.lstrip().startswith((mark, close)) or close not in written:
        return written
    return written.partition(close)[2].lstrip("\n")


@lru_cache(maxsize=8)
def _closing(tokenizer: PreTrainedTokenizerBase, template: str, mark: str) -> str:
    """What stands between reasoning and answer, as the template writes the two."""
    close, usual = REASONING_MARKS[mark], f"\n{REASONING_MARKS[mark]}\n\n"
    thought, said = ANSWERS
    probe = [
        Message("user", QUESTIONS[0]),
        Message("assistant", said, reasoning_content=thought),
    ]
    try:
        text = write_text(probe, tokenizer)
    except DataError:
        return usual
    between = text.partition(thought)[2].partition(said)[0]
    return between if between.strip() == close else usual
