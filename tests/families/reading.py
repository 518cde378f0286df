"""A family's tokenizer as a model folder gives it, and what its tokens say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import TemplateError

from burnish.conversation import IGNORE_INDEX, Conversation
from burnish.recipe import ModelSection
from burnish.rendering import load_tokenizer
from burnish.templates.plain import template_name
from tests.families.families import FAMILIES


@lru_cache
def loaded(family: str):
    """The tokenizer, through the files of a model folder."""
    wanted = family if family.startswith("plain_") else "auto"
    with TemporaryDirectory() as folder:
        FAMILIES[family].tokenizer().save_pretrained(folder)
        return load_tokenizer(Path(folder), ModelSection(chat_template=wanted))


def own_text(conversation: Conversation, tokenizer, **options) -> str:
    """What transformers makes of a conversation."""
    return _own(conversation, tokenizer, tokenize=False, **options)


def own_ids(conversation: Conversation, tokenizer, **options) -> list[int]:
    """The ids that transformers makes of a conversation."""
    return _own(conversation, tokenizer, return_dict=False, **options)


def _own(conversation: Conversation, tokenizer, **options):
    messages = [m.as_dict() for m in conversation.messages]
    for message in messages:
        message.pop("train", None)
        if "input" in message and template_name(tokenizer) == "own":
            message["content"] += "\n\n" + message.pop("input")
    if _takes_parts_only(tokenizer):
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    tools = list(conversation.tools) or None
    return tokenizer.apply_chat_template(messages, tools=tools, **options)


def _takes_parts_only(tokenizer) -> bool:
    """Whether a template writes the parts of a message and knows no text."""
    message = {"role": "user", "content": "zebra"}
    try:
        return "zebra" not in tokenizer.apply_chat_template([message], tokenize=False)
    except (TemplateError, TypeError, ValueError):
        return True


def spans_of(labels: Sequence[int]) -> list[tuple[int, int]]:
    """The stretches of tokens that carry loss: [start, stop)."""
    carries = [False, *(label != IGNORE_INDEX for label in labels), False]
    edges = [at for at in range(len(labels) + 1) if carries[at] != carries[at + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def controls(ids: Sequence[int], tokenizer) -> list[str]:
    """The control tokens among ids, in order."""
    own = tokenizer.added_tokens_decoder
    return [str(own[token]) for token in ids if token in own]


def read(text: str | Sequence[int], family: str) -> str:
    """A text, or what ids say; without blanks where a tokenizer adds some of its own."""
    if not isinstance(text, str):
        text = loaded(family).decode(text, clean_up_tokenization_spaces=False)
    if "bytes" in FAMILIES[family].vocabulary:
        return text
    return text.replace(" ", "").replace("▁", "")
