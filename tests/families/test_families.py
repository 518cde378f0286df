"""Every family's shape × 21 conversations: ids and labels against a script written by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from burnish.conversation import Conversation, Example
from burnish.errors import DataError
from burnish.rendering import (
    NoAnswerLeft,
    render_example,
    render_prompt,
    render_row,
    stop_token_ids,
)
from tests.families.conversations import conversations, talk
from tests.families.families import FAMILIES
from tests.families.oracle import expected_row, expected_texts
from tests.families.packages import tokenizer_for
from tests.families.reading import controls, loaded, own_ids, own_text, read, spans_of
from tests.families.script_parts import Refused
from tests.families.scripts import SCRIPTS

SMUGGLES = "end in the text"
"""The conversation with control tokens in its texts: transformers takes them for real ones."""
NAMES = list(conversations(end="", opener="", reasons=False))
CELLS = [(family, name) for family in FAMILIES for name in NAMES]

REFUSED = {
    # No place for a system prompt.
    *(("gemma 2", name) for name in ("system", "empty system")),
    # An answer of nothing, where the prompt opens reasoning and the template writes none.
    ("deepseek r1, thinks", "blank answer"),
    # No place for tools.
    *((family, "tools") for family, shape in FAMILIES.items() if not shape.tools),
}
OTHERWISE = {
    # The template alone writes another text than its prompt begins, or loses the reasoning.
    *(("mistral 3", name) for name in ("system", "empty system")),
    *(("deepseek r1", name) for name in ("reasoning", "reasoning twice")),
    *(("deepseek r1, thinks", name) for name in NAMES),
}

NOTHING_BEHIND = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
NOTHING_BEHIND += "{% if add_generation_prompt %}assistant: {% endif %}"


def cell(family: str, name: str) -> Conversation:
    shape = FAMILIES[family]
    return conversations(end=shape.end, opener=shape.opener, reasons=shape.reasons)[name]


def test_the_table_has_29_shapes_and_21_conversations():
    assert list(FAMILIES) == list(SCRIPTS)
    assert (len(FAMILIES), len(NAMES)) == (29, 21)
    kinds = Counter(_kind(*each) for each in CELLS)
    assert kinds == {"equal": 553, "refused": 25, "apart": 17, "answers apart": 14}


def _kind(family: str, name: str) -> str:
    """Whether a cell's ids are one encoding, prompt and answer apart, several examples, or none."""
    try:
        parts = expected_row(family, cell(family, name), loaded(family))
    except Refused:
        return "refused"
    return "answers apart" if len(parts) > 1 else parts[0][1].kind


@pytest.mark.parametrize("family, name", [c for c in CELLS if c not in REFUSED])
def test_ids_and_labels_are_those_of_the_script(family, name):
    conversation, tokenizer = cell(family, name), loaded(family)
    wanted = expected_row(family, conversation, tokenizer)
    found = render_row(conversation, tokenizer, 10**6)
    assert [part for part, _ in found] == [part for part, _ in wanted]
    for (part, example), (_, told) in zip(found, wanted, strict=True):
        assert isinstance(example, Example), example
        if name == SMUGGLES:
            whole, answers = expected_texts(family, part)
            spoken = [example.input_ids[a:b] for a, b in spans_of(example.labels)]
            assert read(example.input_ids, family) == read(whole, family)
            assert [read(run, family) for run in spoken] == [read(text, family) for text in answers]
        else:
            assert example.input_ids == told.input_ids
            assert example.labels == told.labels


@pytest.mark.parametrize("family, name", [c for c in CELLS if c not in REFUSED | OTHERWISE])
def test_ids_are_those_of_transformers(family, name):
    tokenizer = loaded(family)
    for part, example in render_row(cell(family, name), tokenizer, 10**6):
        ids = example.input_ids
        if name == SMUGGLES:
            wanted = _tamed(family, name)
            assert controls(ids, tokenizer) == controls(wanted, tokenizer)
            return
        (*_, (start, _)) = spans_of(example.labels)
        own = own_ids(part, tokenizer)
        # Where the first of the answer merges with the prompt's last token, the two stand apart.
        asked = own_ids(
            replace(part, messages=part.question), tokenizer, add_generation_prompt=True
        )
        assert ids == own[: len(ids)] or (own[:start] != asked == ids[:start])
        assert read(own_text(part, tokenizer), family).startswith(read(ids, family))


def _tamed(family: str, name: str) -> list[int]:
    """The ids of a conversation without control tokens in it, up to the last answer's end."""
    shape, tokenizer = FAMILIES[family], loaded(family)
    tame = conversations(end="nothing", opener="more", reasons=shape.reasons)[name]
    length = len(render_example(tame, tokenizer, 10**6).input_ids)
    return own_ids(tame, tokenizer)[:length]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_that_of_transformers_and_begins_the_example(family):
    tokenizer = loaded(family)
    for name in NAMES:
        if (family, name) in REFUSED or name == SMUGGLES:
            continue
        for part, example in render_row(cell(family, name), tokenizer, 10**6):
            prompt = render_prompt(part.question, tokenizer, tools=part.tools)
            question = replace(part, messages=part.question)
            assert prompt == own_ids(question, tokenizer, add_generation_prompt=True), name
            assert example.input_ids[: len(prompt)] == prompt, name


@pytest.mark.parametrize("family, name", sorted(REFUSED))
def test_what_a_format_has_no_place_for_is_refused(family, name):
    conversation, tokenizer = cell(family, name), loaded(family)
    with pytest.raises(Refused):
        expected_row(family, conversation, tokenizer)
    ((_, refused),) = render_row(conversation, tokenizer, 10**6)
    assert isinstance(refused, DataError)
    assert refused.where == conversation.origin


@pytest.mark.parametrize("family", FAMILIES)
def test_what_ends_an_answer_is_known(family):
    tokenizer = loaded(family)
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert tuple(names) == FAMILIES[family].stops


def test_an_answer_of_nothing_is_refused_where_nothing_ends_it():
    with pytest.raises(NoAnswerLeft, match="its answers are empty"):
        render_example(talk("Hello", ""), tokenizer_for(NOTHING_BEHIND), 500)
