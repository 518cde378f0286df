"""Chat templates of real models, as installed packages have them, × the conversations."""

from __future__ import annotations

import pytest

from burnish.errors import DataError
from burnish.rendering import render_example
from tests.families.conversations import conversations
from tests.families.packages import found_in, tokenizer_for, what_is_wrong
from tests.families.reading import spans_of
from tests.families.templates import LLAMA_3

FOUND = [*found_in("trl", "chat_templates"), *found_in("axolotl", "utils/chat_templates/templates")]


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_a_real_template_gives_the_ids_of_transformers_or_is_refused(path):
    template = path.read_text(encoding="utf-8")
    tokenizer, reasons = tokenizer_for(template), "reasoning_content" in template
    for name, conversation in conversations(
        end=tokenizer.eos_token, opener="<|im_start|>", reasons=reasons
    ).items():
        try:
            wrong = what_is_wrong(conversation, tokenizer, smuggles=name == "end in the text")
        except DataError:
            continue
        assert wrong is None, f"{name}: {wrong}"


@pytest.mark.skipif(not FOUND, reason="no package with chat templates (trl, axolotl) is installed")
def test_most_real_templates_render_a_question_and_its_answer():
    rendered = 0
    for path in FOUND:
        single = conversations(end="", opener="", reasons=False)["single"]
        try:
            rendered += what_is_wrong(single, tokenizer_for(path.read_text("utf-8"))) is None
        except DataError:
            continue
    assert rendered >= len(FOUND) * 0.6


def test_the_check_of_templates_finds_other_ids_and_what_is_learned_beside_an_answer(monkeypatch):
    tokenizer = tokenizer_for(LLAMA_3)
    twice = conversations(end="", opener="", reasons=False)["two turns"]
    assert what_is_wrong(twice, tokenizer) is None
    right = render_example(twice, tokenizer, 10**6)
    start, stop = spans_of(right.labels)[0]
    for ids, labels, wrong in (
        (right.input_ids[1:], right.labels[1:], "its text is another"),
        (right.input_ids, _masked(right, start, stop), "of 2 answers 1 carry loss"),
        (right.input_ids, _learned(right, start - 1), "an answer is asked for otherwise"),
        (right.input_ids, _learned(right, stop + 3), "'Yes.<|eot_id|><|start_header_id|>user"),
    ):
        fake = type(right)(ids, labels, right.origin)
        monkeypatch.setattr(
            "tests.families.packages.render_row", lambda *_, fake=fake: [(twice, fake)]
        )
        assert str(what_is_wrong(twice, tokenizer)).startswith(wrong)


def _masked(example, start, stop):
    return [-100 if start <= i < stop else label for i, label in enumerate(example.labels)]


def _learned(example, upto):
    """The labels with those of the first answer reaching to a token before or behind it."""
    start, stop = spans_of(example.labels)[0]
    low, high = min(start, upto), max(stop, upto)
    pairs = enumerate(zip(example.input_ids, example.labels, strict=True))
    return [token if low <= i < high else label for i, (token, label) in pairs]
