"""A model folder -> its tokenizer, with the chat template that the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.errors import ModelError, first_line
from burnish.recipe import ModelSection
from burnish.rendering.endings import ends_of
from burnish.templates.dates import pinned_day, with_day, writes_date
from burnish.templates.defaults import with_defaults
from burnish.templates.limits import check_template
from burnish.templates.new_tokens import add_new_tokens
from burnish.templates.plain import choose_template, closed_with_eos, template_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path, section: ModelSection) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with the chat template that the recipe asks for.

    Raises:
        ModelError: there is no tokenizer there, it has no end-of-sequence token, or rendering its
            chat template takes too much time or memory.
        RecipeError: model.new_tokens names a token that it has.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=section.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            str(folder),
            f"its tokenizer can't be loaded: {first_line(error)}",
            "Check that the folder holds tokenizer.json or the tokenizer's own files.",
        ) from None
    if tokenizer.eos_token_id is None:
        raise ModelError(
            str(folder),
            "its tokenizer has no end-of-sequence token, so no answer could ever end.",
            "Set eos_token in tokenizer_config.json.",
        )
    _set_template(tokenizer, folder, section)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _set_template(tokenizer: PreTrainedTokenizerBase, folder: Path, section: ModelSection) -> None:
    """Whatever the recipe says of the template becomes part of it; what is part already stays."""
    add_new_tokens(tokenizer, section.new_tokens)
    template = choose_template(tokenizer.chat_template, section.chat_template)
    if template is not None:
        tokenizer.chat_template = template
    else:
        check_own_templates(tokenizer, folder)
    if section.end_of_answer == "eos" and ends_of(tokenizer).last is None:
        tokenizer.chat_template = _changed(tokenizer.chat_template, closed_with_eos)
    if template_name(tokenizer) == "own":
        add = partial(with_defaults, values=section.chat_template_kwargs)
        tokenizer.chat_template = _changed(tokenizer.chat_template, add)
    if section.template_date is not None:
        pin_date(tokenizer, section.template_date)


def check_own_templates(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Renders the chat templates that came with a tokenizer once, under limits.

    Raises:
        ModelError: one takes too much time or memory.
    """
    for template in _texts(tokenizer.chat_template):
        check_template(template, dict(tokenizer.special_tokens_map), str(folder))


def pin_date(tokenizer: PreTrainedTokenizerBase, day: date) -> bool:
    """Makes a chat template that writes today's date write this day; says whether it does."""
    own = tokenizer.chat_template
    if own is None:
        return False
    tokenizer.chat_template = _changed(own, partial(with_day, day=day))
    return bool(tokenizer.chat_template != own)


def day_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The day (ISO 8601) that the chat template takes for today, where that is pinned."""
    days = map(pinned_day, _texts(tokenizer.chat_template))
    return next((day for day in days if day is not None), None)


def has_live_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template writes another date every day."""
    return any(map(writes_date, _texts(tokenizer.chat_template)))


def _texts(template: str | dict[str, str] | None) -> list[str]:
    """All templates of a tokenizer, which may have several by name."""
    if isinstance(template, dict):
        return list(template.values())
    return [] if template is None else [template]


def _changed(template: str | dict[str, str], change: Callable[[str], str]) -> str | dict[str, str]:
    """The template, or each of several that a tokenizer has by name."""
    if isinstance(template, dict):
        return {name: change(text) for name, text in template.items()}
    return change(template)
