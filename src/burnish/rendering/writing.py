"""Messages -> text, by the tokenizer's own chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.templates.plain import PLAIN_TEMPLATES, template_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = "garply"
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def joined_input(message: Message) -> str:
    """The message's text where a template knows no separate input: both, with a blank line."""
    return f"{message.content}\n\n{message.input}" if message.input else message.content


def write_text(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tools: Sequence[dict[str, Any]] = (),
    add_generation_prompt: bool = False,
) -> str:
    """What the chat template makes of messages.

    Raises:
        DataError: it refuses them.
    """
    try:
        text = tokenizer.apply_chat_template(
            _as_template_reads(messages, tokenizer),
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise _refused(messages, error) from None
    return str(text)


def write_generated(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    tools: Sequence[dict[str, Any]] = (),
) -> list[tuple[int, int]] | None:
    """Where the text of `write_text` lies between `{% generation %}` marks: [start, stop) each.

    None where the chat template has no such marks.
    """
    template = tokenizer.get_chat_template(None, list(tools) or None)
    if not _GENERATION.search(template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    _, spans = render_jinja_template(
        conversations=[_as_template_reads(messages, tokenizer)],
        tools=list(tools) or None,
        chat_template=template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return list(spans[0])


def _as_template_reads(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    plain = template_name(tokenizer) in PLAIN_TEMPLATES
    in_parts = _takes_parts(tokenizer, str(tokenizer.chat_template))
    values = []
    for message in messages:
        if message.input and not plain:
            message = replace(message, content=joined_input(message), input="")
        value = message.as_dict()
        value.pop("train", None)
        values.append(_with_parts(value) if in_parts else value)
    return values


def _with_parts(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


@lru_cache(maxsize=8)
def _takes_parts(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Whether a template writes a message only if it comes in parts, as those of SmolVLM do.

    Servers (vLLM, llama.cpp) find it out by themselves, too, and send it so.
    """
    message = {"role": "user", "content": _WORD}
    texts = []
    for sent in (message, _with_parts(message)):
        try:
            texts.append(str(tokenizer.apply_chat_template([sent], tokenize=False)))
        except (TemplateError, TypeError, ValueError):
            texts.append("")
    as_text, in_parts = texts
    return _WORD not in as_text and _WORD in in_parts


def _refused(messages: Sequence[Message], error: Exception) -> DataError:
    roles = ", ".join(m.role for m in messages)
    return DataError(
        "chat template",
        f"the model's chat template refuses these messages ({roles}): {error}",
        "Remove the system prompt or reorder the turns; many templates want user and "
        "assistant in turn.",
    )
