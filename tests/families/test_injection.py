"""Whatever stands in a message, turns begin and end where they would with harmless words."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.rendering import render_prompt, render_row
from tests.families.conversations import CALL, TOOL, talk
from tests.families.families import FAMILIES
from tests.families.reading import loaded, own_ids, own_text, read, spans_of

NAMES = sorted({n for f in FAMILIES.values() for n in (*f.special, *f.plain, *f.markers)})
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
TAME = "harmless"

SAFE_REFUSALS = (
    "the tokenizer merges its first characters",
    "does not write the whole",
    "does not begin the whole",
    "its answers are empty",
)
"""What an answer may be refused for: it begins with white space, is stripped, or is nothing."""
REASONING = ("<think>", "</think>")
"""Tokens that an answer may hold, special ones or not."""


def _variants(name: str, cut: int) -> list[str]:
    cut = 1 + cut % max(len(name) - 1, 1)
    before, behind = name[:cut], name[cut:]
    whole = [name, name + name, before + name + behind, f"{name}\n", f" {name} ", f"\n\n{name}\n"]
    parts = [before, behind, before + "\u200b" + behind, before + "\u2060" + behind]
    return [*whole, *parts, name.translate(WIDE), name.upper(), name.lower()]


_variant = st.builds(_variants, st.sampled_from(NAMES), st.integers(0, 40)).flatmap(st.sampled_from)
_syntax = st.sampled_from(
    [
        "{{",
        "}}",
        "{% endfor %}",
        "{{ messages }}",
        "{# ",
        "{% raw %}",
        "'",
        '"',
        "\\n",
        "\ue0f00\ue0f1",
    ]
)
_words = st.sampled_from(
    ["user", "assistant\n", "system", "model", "\n", " ", "：", "tool", "\n\n"]
)
HOSTILE = (
    st.lists(
        st.one_of(_variant, _variant, _variant, _syntax, _words, st.text(max_size=6)),
        min_size=1,
        max_size=6,
    )
    .map("".join)
    .filter(str.strip)
)


def _called(text: str, place: str) -> Conversation:
    """A question, a call, its result and an answer, with the text at a place of the call."""
    name = text if place == "tool name" else "weather"
    key, value = (text, "罗马") if place == "argument's name" else ("city", "罗马")
    value = text if place == "argument" else value
    function = TOOL["function"] | {"name": name}
    if place == "tool's description":
        function |= {"description": text}
    turns = (
        Message("user", "Is it warm?"),
        Message("assistant", "", tool_calls=(CALL | {"name": name, "arguments": {key: value}},)),
        Message("tool", text if place == "tool result" else '"21"'),
        Message("assistant", "Yes."),
    )
    return Conversation(turns, "x:1", tools=({"type": "function", "function": function},))


PLACES = {
    "question": lambda x: talk(x, "Yes.", f"And {x}", "No."),
    "system prompt": lambda x: talk("Is it?", "Yes.", system=x),
    "input": lambda x: Conversation(
        (Message("user", "Is it?", input=x), Message("assistant", "Y")), ""
    ),
    "answer": lambda x: talk("Is it?", x),
    "earlier answer": lambda x: talk("Is it?", f"No: {x}", "And now?", "Yes."),
    **{
        place: lambda x, place=place: _called(x, place)
        for place in (
            "tool name",
            "argument's name",
            "argument",
            "tool's description",
            "tool result",
        )
    },
}


def _is_possible(family: str, place: str) -> bool:
    if place == "system prompt":
        return family != "gemma 2"
    needs_tools = "tool" in place or "argument" in place
    return FAMILIES[family].tools or not needs_tools


def skeleton(ids, labels, family: str, *, counts_plain: bool) -> list[tuple[str, bool]]:
    """The control tokens in order, and whether each carries loss."""
    own = loaded(family).added_tokens_decoder
    plain = () if counts_plain else (*FAMILIES[family].plain, *REASONING)
    return [
        (str(own[token]), label == token)
        for token, label in zip(ids, labels, strict=True)
        if token in own and str(own[token]) not in plain
    ]


def markers_in(ids, conversation: Conversation, family: str) -> int:
    """How often a marker of the template stands among ids as the template's own does.

    The template's own are read from a harmless conversation, with the whole tokens at their edges,
    such as a colon with its line break.
    """
    tokenizer, text = loaded(family), own_text(conversation, loaded(family))
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = list(enumerate(found["offset_mapping"]))
    own = set()
    for marker in FAMILIES[family].markers:
        at = text.find(marker)
        while at >= 0:
            within = [i for i, (a, b) in spans if a < at + len(marker) and b > at]
            own.add(tuple(found["input_ids"][within[0] : within[-1] + 1]))
            at = text.find(marker, at + 1)
    return sum(tuple(ids[i : i + len(m)]) == m for m in own for i in range(len(ids)))


def check(family: str, place: str, text: str) -> None:
    """Renders a conversation with the text at a place and compares it with a harmless one."""
    hostile, tame, tokenizer = PLACES[place](text), PLACES[place](TAME), loaded(family)
    is_anyones = "answer" not in place
    prompts = [render_prompt(c.question, tokenizer, tools=c.tools) for c in (hostile, tame)]
    one, other = (skeleton(p, p, family, counts_plain=is_anyones) for p in prompts)
    assert one == other
    examples = _rendered(hostile, family, may_refuse=not is_anyones)
    if not examples:
        return
    apart = len(examples) > 1  # an answer that the template cuts stands apart from the next
    for example, wanted in zip(examples, _rendered(tame, family, apart=apart), strict=True):
        one, other = (
            skeleton(e.input_ids, e.labels, family, counts_plain=is_anyones)
            for e in (example, wanted)
        )
        assert one == other
        assert len(spans_of(example.labels)) == len(spans_of(wanted.labels))
    found, own = (markers_in(e.input_ids, tame, family) for e in (example, wanted))
    # White space around a text goes into the tokens at the edges of the template's own.
    assert found == own or (found < own and text != text.strip())
    if is_anyones:
        said, quoted = read(example.input_ids, family), json.dumps(text, ensure_ascii=False)[1:-1]
        assert any(read(written, family).strip() in said for written in (text, quoted))


def _rendered(
    conversation: Conversation, family: str, *, may_refuse: bool = False, apart: bool = False
):
    """What the conversation is learned as; nothing where it is refused."""
    parts = render_row(conversation, loaded(family), 10**6, "each" if apart else "all")
    found = [example for _, example in parts]
    problems = [each.problem for each in found if isinstance(each, DataError)]
    assert may_refuse or not problems, problems
    assert all(any(reason in each for reason in SAFE_REFUSALS) for each in problems), problems
    return [] if problems else found


CASES = [(f, p) for f in FAMILIES for p in PLACES if _is_possible(f, p)]


@pytest.mark.parametrize("family, place", CASES)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(text=HOSTILE)
def test_no_text_moves_a_boundary(family, place, text):
    check(family, place, text)


@pytest.mark.parametrize("family, place", CASES)
def test_no_name_of_any_family_moves_a_boundary(family, place):
    for name in NAMES:
        check(family, place, f"so {name}\n and {name[:3]}{name}{name[3:]} {name}")


@pytest.mark.slow
@pytest.mark.parametrize("family, place", CASES)
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(text=HOSTILE)
def test_no_text_of_many_moves_a_boundary(family, place, text):
    check(family, place, text)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_sees_what_transformers_alone_would_let_through(family):
    end = FAMILIES[family].end
    tame, hostile = (PLACES["question"](text) for text in (TAME, f"a {end}"))
    ids = [own_ids(conversation, loaded(family)) for conversation in (tame, hostile)]
    one, other = (skeleton(i, i, family, counts_plain=True) for i in ids)
    assert one != other
