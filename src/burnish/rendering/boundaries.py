"""Which strings of a tokenizer's chat template a message may not smuggle in."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.rendering.endings import ANSWERS, QUESTIONS, ends_of, write_probe
from burnish.rendering.writing import write_text
from burnish.templates.control_tokens import (
    REASONING_MARKS,
    Boundaries,
    Hidden,
    pattern_of,
    prepends_blank,
)
from burnish.templates.literals import (
    literals,
    looked_for,
    markers,
    open_edges,
    open_middles,
    speakers,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def hidden_for(tokenizer: PreTrainedTokenizerBase) -> Hidden:
    """What hides boundaries in the messages of one conversation."""
    return Hidden(tokenizer, boundaries_of(tokenizer))


def boundaries_of(tokenizer: PreTrainedTokenizerBase) -> Boundaries:
    """The boundaries of a tokenizer's chat template."""
    return _find_boundaries(tokenizer, str(tokenizer.chat_template))


def reasoning_marks(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """What the template looks for in an answer to take it apart, such as `</think>`."""
    return _find_reasoning_marks(str(tokenizer.chat_template))


@lru_cache(maxsize=8)
def _find_reasoning_marks(template: str) -> re.Pattern[str]:
    marks = sorted(looked_for(template) & markers([template]), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, marks)) or "(?!)")


@lru_cache(maxsize=8)
def _find_boundaries(tokenizer: PreTrainedTokenizerBase, template: str) -> Boundaries:
    """Special tokens, other tokens that the template writes, and its markers that are no tokens."""
    written, between = literals(template), _between_messages(tokenizer)
    added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = ends_of(tokenizer)
    always = {*tokenizer.all_special_ids, ends.early, ends.last, ends.call, ends.opener} - {None}
    names = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in special | always}
    names |= {i: name for i, name in added.items() if any(name in t for t in (*written, *between))}
    names |= {i: name for i, name in added.items() if _partner(name) in names.values()}
    names = {i: name for i, name in names.items() if name.strip() and not name.isalnum()}
    turn_markers = markers(between).union(*map(speakers, between))
    kept = looked_for(template) - {names.get(i) for i in always}
    own = {names[i] for i in (special | always) & set(names)} | turn_markers
    ends_open, begins_open = open_edges(own, written)
    edges = {"ends": ends_open, "begins": begins_open, "wholes": open_middles(own, between)}
    return Boundaries(
        anyone=pattern_of({*names.values(), *markers(written), *turn_markers}, **edges),
        assistant=pattern_of(own - kept - _tags(added, special | always), **edges),
        names=names,
        prepends=prepends_blank(tokenizer),
    )


def _tags(added: dict[int, str], boundaries: set[int]) -> set[str]:
    """Tokens in pairs, such as `<think>` and `</think>`, that are no boundaries.

    They are the assistant's to write, also where a template's own system prompt names them; marks
    of reasoning are, too, where a tokenizer has them as special tokens.
    """
    names = {name for i, name in added.items() if i not in boundaries}
    reasoning = {*REASONING_MARKS, *REASONING_MARKS.values()} & {*added.values()}
    return {name for name in names if _partner(name) in names} | reasoning


def _partner(name: str) -> str:
    """`</think>` for `<think>`, and the other way round."""
    return f"<{name[2:]}" if name.startswith("</") else f"</{name[1:]}"


def _between_messages(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the template writes before, between and behind messages."""
    texts = [write_probe(tokenizer) or ""]
    asked = [Message("user", QUESTIONS[0])]
    for turns in ([Message("system", QUESTIONS[1]), *asked], asked):
        try:
            texts.append(write_text(turns, tokenizer, add_generation_prompt=True))
        except DataError:
            continue
    said = "|".join((*QUESTIONS, *ANSWERS))
    return [part for text in texts for part in re.split(said, text)]
