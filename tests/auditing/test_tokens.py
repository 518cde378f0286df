"""Lengths in tokens, with a tokenizer that has a token a byte."""

from __future__ import annotations

from burnish.auditing import tokens
from burnish.auditing.tokens import TokenCounter
from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.recipe import ModelSection


def conversation(question, answer):
    return Conversation((Message("user", question), Message("assistant", answer)), "a:1")


def counter(model, num_rows):
    return TokenCounter(ModelSection(name_or_path=str(model)), num_rows)


def test_question_and_answer_add_up_to_what_training_sees(tiny_model):
    counted = counter(tiny_model, 1)
    counted.add(conversation("Why?", "So."))
    # <|im_start|> user ⏎ Why? <|im_end|> ⏎ <|im_start|> assistant ⏎, and So. <|im_end|>
    assert list(counted.questions) == [1 + 5 + 4 + 1 + 1 + 1 + 10]
    assert list(counted.answers) == [3 + 1]
    assert counted.described == f"of {tiny_model}, its chat template included; 1 rows"


def test_of_many_rows_a_share_is_counted_and_that_is_said(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "MOST_ROWS", 4)
    counted = counter(tiny_model, 10)
    assert "tokens are counted in 4 of 10 rows, evenly spread" in capsys.readouterr().err
    for length in range(1, 11):
        counted.add(conversation("Why?", "a" * length))
    assert list(counted.answers) == [4, 6, 9, 11]
    assert counted.described.endswith("; 4 rows, evenly spread over 10")


def test_a_row_that_the_template_refuses_is_counted_apart(tiny_model, monkeypatch):
    def refuse(conversation, tokenizer, max_length):
        raise DataError(conversation.origin, "the template refuses these messages.", "")

    counted = counter(tiny_model, 2)
    counted.add(conversation("Why?", "So."))
    monkeypatch.setattr(tokens, "render_example", refuse)
    counted.add(conversation("Why?", "So."))
    assert len(counted.answers) == 1
    assert counted.described.endswith("; 1 rows; 1 rows can't be rendered")
