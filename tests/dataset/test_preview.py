"""What carries loss stands out."""

from __future__ import annotations

import pytest

from burnish.conversation import Conversation, Message
from burnish.dataset.preview import CONTEXT, TRAINED, coloured, preview
from burnish.errors import DataError
from burnish.pipeline import run_stage
from burnish.rendering import render_example
from burnish.run_dir import RunDir


def runs(text):
    return [(text.plain[span.start : span.end], span.style) for span in text.spans]


def test_answers_and_their_end_tokens_are_coloured_and_all_else_is_dim(tokenizer):
    messages = (Message("user", "头"), Message("assistant", "痛"))
    more = (Message("user", "x"), Message("assistant", "🩺 yes"))
    example = render_example(Conversation((*messages, *more), "x:1"), tokenizer, 500)
    assert runs(coloured(example, tokenizer)) == [
        ("<|im_start|>user\n头<|im_end|>\n<|im_start|>assistant\n", CONTEXT),
        ("痛<|im_end|>", TRAINED),
        ("\n<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n", CONTEXT),
        ("🩺 yes<|im_end|>", TRAINED),
    ]


def test_text_that_looks_like_markup_is_shown_as_it_is(tokenizer):
    messages = (Message("user", "[red]a[/red]"), Message("assistant", "[b]"))
    example = render_example(Conversation(messages, "x:1"), tokenizer, 500)
    assert "[red]a[/red]" in coloured(example, tokenizer).plain
    assert runs(coloured(example, tokenizer))[-1] == ("[b]<|im_end|>", TRAINED)


@pytest.fixture
def cleaned(tiny_recipe):
    run_stage("clean", tiny_recipe)
    recipe = tiny_recipe.recipe
    return recipe.model, recipe.prepare, RunDir(tiny_recipe.run_dir)


def test_a_row_is_chosen_by_its_number(cleaned):
    example, text = preview(*cleaned, row=3)
    assert "Question 2?" in text.plain
    assert example.num_supervised == len("Answer 4.") + 1


def test_without_a_number_the_seed_chooses_a_row(cleaned):
    assert preview(*cleaned, row=None)[1].plain == preview(*cleaned, row=None)[1].plain


@pytest.mark.parametrize("row", [0, -1, 41])
def test_a_row_that_is_not_there_is_refused(cleaned, row):
    with pytest.raises(DataError, match=f"no row {row}; cleaning kept 40"):
        preview(*cleaned, row=row)
