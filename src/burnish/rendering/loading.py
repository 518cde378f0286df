"""A model folder -> its tokenizer, with the chat template that the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.errors import ModelError
from burnish.recipe import ModelSection
from burnish.rendering.endings import ends_of
from burnish.templates.limits import check_template
from burnish.templates.plain import choose_template, closed_with_eos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path, section: ModelSection) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with the chat template that the recipe asks for.

    Raises:
        ModelError: there is no tokenizer there, it has no end-of-sequence token, or rendering its
            chat template takes too much time or memory.
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
    else:
        _check_own_templates(tokenizer, folder)
    if section.end_of_answer == "eos" and ends_of(tokenizer).last is None:
        tokenizer.chat_template = _changed(tokenizer.chat_template, closed_with_eos)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_own_templates(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    own = tokenizer.chat_template
    for template in own.values() if isinstance(own, dict) else [own]:
        check_template(template, dict(tokenizer.special_tokens_map), str(folder))


def _changed(template: str | dict[str, str], change: Callable[[str], str]) -> str | dict[str, str]:
    """The template, or each of several that a tokenizer has by name."""
    if isinstance(template, dict):
        return {name: change(text) for name, text in template.items()}
    return change(template)
