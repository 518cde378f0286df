"""Every family's shape × twenty conversations: ids and labels against a script written by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from burnish.conversation import Conversation
from burnish.errors import DataError
from burnish.rendering import NoAnswerLeft, render_example, render_prompt, stop_token_ids
from tests.families.conversations import conversations, talk
from tests.families.families import FAMILIES
from tests.families.oracle import SCRIPTS, Refused, expected, expected_texts
from tests.families.packages import tokenizer_for
from tests.families.reading import controls, loaded, own_ids, read, spans_of

SMUGGLES = "end in the text"
"""The conversation with control tokens in its texts: transformers takes them for real ones."""
NAMES = list(conversations(end="", opener="", reasons=False))
CELLS = [(family, name) for family in FAMILIES for name in NAMES]

REFUSED = {
    # No place for a system prompt; or it is only in the last question, while that has no answer.
    *((family, name) for family in ("gemma 2", "mistral 3") for name in ("system", "empty system")),
    # An answer loses its reasoning, whatever is learned.
    ("deepseek r1", "reasoning"),
    # No place for tools.
    *((family, "tools") for family, shape in FAMILIES.items() if not shape.tools),
}
APART = {
    # The answer begins with white space, and so ends the prompt: the tokenizer makes one token of
    # both, but a server's prompt ends between them.
    *((family, "blanks") for family in ("chatml", "chatml, marked", "internlm2", "smollm2")),
    *((family, "blanks") for family in ("qwen2.5", "phi 3", "plain_zh", "plain_en")),
    *((family, "code") for family in ("chatml, marked", "smollm2")),
}

NOTHING_BEHIND = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
NOTHING_BEHIND += "{% if add_generation_prompt %}assistant: {% endif %}"


def cell(family: str, name: str) -> Conversation:
    shape = FAMILIES[family]
    return conversations(end=shape.end, opener=shape.opener, reasons=shape.reasons)[name]


def test_the_table_has_27_shapes_and_20_conversations():
    assert list(FAMILIES) == list(SCRIPTS)
    assert (len(FAMILIES), len(NAMES)) == (27, 20)
    kinds = Counter(_kind(*each) for each in CELLS)
    assert kinds == {"equal": 505, "refused": 25, "apart": 10}


def _kind(family: str, name: str) -> str:
    try:
        return expected(family, cell(family, name), loaded(family)).kind
    except Refused:
        return "refused"


@pytest.mark.parametrize("family, name", [c for c in CELLS if c not in REFUSED])
def test_ids_and_labels_are_those_of_the_script(family, name):
    conversation, tokenizer = cell(family, name), loaded(family)
    wanted = expected(family, conversation, tokenizer)
    example = render_example(conversation, tokenizer, 10**6)
    assert (wanted.kind == "apart") == ((family, name) in APART)
    if name == SMUGGLES:
        whole, answers = expected_texts(family, conversation)
        spoken = [example.input_ids[a:b] for a, b in spans_of(example.labels)]
        assert read(example.input_ids, family) == read(whole, family)
        assert [read(run, family) for run in spoken] == [read(text, family) for text in answers]
        return
    assert example.input_ids == wanted.input_ids
    assert example.labels == wanted.labels


@pytest.mark.parametrize("family, name", [c for c in CELLS if c not in REFUSED | APART])
def test_ids_are_those_of_transformers(family, name):
    conversation, tokenizer = cell(family, name), loaded(family)
    ids = render_example(conversation, tokenizer, 10**6).input_ids
    if name == SMUGGLES:
        shape = FAMILIES[family]
        tame = conversations(end="nothing", opener="more", reasons=shape.reasons)[name]
        wanted = own_ids(tame, tokenizer)[: len(render_example(tame, tokenizer, 10**6).input_ids)]
        assert controls(ids, tokenizer) == controls(wanted, tokenizer)
        return
    assert ids == own_ids(conversation, tokenizer)[: len(ids)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_that_of_transformers_and_begins_the_example(family):
    tokenizer = loaded(family)
    for name in NAMES:
        if (family, name) in REFUSED or name == SMUGGLES:
            continue
        conversation = cell(family, name)
        prompt = render_prompt(conversation.question, tokenizer, tools=conversation.tools)
        question = replace(conversation, messages=conversation.question)
        assert prompt == own_ids(question, tokenizer, add_generation_prompt=True), name
        example = render_example(conversation, tokenizer, 10**6)
        assert example.input_ids[: len(prompt)] == prompt, name


@pytest.mark.parametrize("family, name", sorted(REFUSED))
def test_what_a_format_has_no_place_for_is_refused(family, name):
    conversation, tokenizer = cell(family, name), loaded(family)
    with pytest.raises(Refused):
        expected(family, conversation, tokenizer)
    with pytest.raises(DataError) as caught:
        render_example(conversation, tokenizer, 10**6)
    assert caught.value.where == conversation.origin


@pytest.mark.parametrize("family", FAMILIES)
def test_what_ends_an_answer_is_known(family):
    tokenizer = loaded(family)
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert tuple(names) == FAMILIES[family].stops


def test_an_answer_of_nothing_is_refused_where_nothing_ends_it():
    with pytest.raises(NoAnswerLeft, match="its answers are empty"):
        render_example(talk("Hello", ""), tokenizer_for(NOTHING_BEHIND), 500)
