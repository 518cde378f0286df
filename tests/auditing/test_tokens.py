"""Lengths in tokens, with a tokenizer that has a token a byte."""

from __future__ import annotations

from burnish.auditing import tokens
from burnish.auditing.tokens import TokenCounter
from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.recipe import ModelSection, PrepareSection


def conversation(question, answer):
    return Conversation((Message("user", question), Message("assistant", answer)), "a:1")


def counter(model, num_rows, train_on="all"):
    section = PrepareSection(train_on=train_on)
    return TokenCounter(ModelSection(name_or_path=str(model)), section, num_rows)


def test_question_and_answer_add_up_to_what_training_sees(tiny_model):
    counted = counter(tiny_model, 1)
    counted.add(conversation("Why?", "So."))
    # <|im_start|> user ⏎ Why? <|im_end|> ⏎ <|im_start|> assistant ⏎, and So. <|im_end|>
    assert list(counted.questions) == [1 + 5 + 4 + 1 + 1 + 1 + 10]
    assert list(counted.answers) == [3 + 1]
    assert counted.described == f"of {tiny_model}, its chat template included; 1 rows"


def test_what_carries_loss_is_what_the_recipe_learns(tiny_model):
    turns = (*conversation("a", "bb").messages, *conversation("c", "dddd").messages)
    found = {}
    for train_on in ("all", "last", "each"):
        counted = counter(tiny_model, 1, train_on)
        counted.add(Conversation(turns, "a:1"))
        found[train_on] = (list(counted.questions), list(counted.answers), counted.described)
    # A question takes 1 + 5 + 1 + 1 + 1 tokens, the opening of an answer 11, and a line break
    # stands behind each answer that another question follows.
    assert found["all"][:2] == ([20 + 1 + 20], [3 + 5])
    assert found["last"][:2] == ([20 + 3 + 1 + 20], [5])
    assert found["each"][:2] == ([20, 20 + 3 + 1 + 20], [3, 5])
    assert found["each"][2].endswith("; 1 rows as 2 examples")
    assert found["all"][2].endswith("; 1 rows")


def test_of_many_rows_a_share_is_counted_and_that_is_said(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "MOST_ROWS", 4)
    counted = counter(tiny_model, 10)
    assert "tokens are counted in 4 of 10 rows, evenly spread" in capsys.readouterr().err
    for length in range(1, 11):
        counted.add(conversation("Why?", "a" * length))
    assert list(counted.answers) == [4, 6, 9, 11]
    assert counted.described.endswith("; 4 rows, evenly spread over 10")


def test_a_row_that_the_template_refuses_is_counted_apart(tiny_model, monkeypatch):
    def refuse(conversation, tokenizer, max_length, train_on):
        error = DataError(conversation.origin, "the template refuses these messages.", "")
        return [(conversation, error)]

    counted = counter(tiny_model, 2)
    counted.add(conversation("Why?", "So."))
    monkeypatch.setattr(tokens, "render_row", refuse)
    counted.add(conversation("Why?", "So."))
    assert len(counted.answers) == 1
    assert counted.described.endswith("; 1 rows; 1 rows can't be rendered")
