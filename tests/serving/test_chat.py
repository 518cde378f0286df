"""A conversation in the terminal."""

from __future__ import annotations

from burnish.conversation import Message
from burnish.recipe import ServeSection
from burnish.serving.chat import chat

GREEDY = ServeSection(max_new_tokens=50, temperature=0)


def test_pieces_are_shown_as_they_come_and_a_line_break_ends_them(reciting):
    shown: list[str] = []
    report = chat(reciting("Wo头"), GREEDY, [Message("user", "Hi")], show=shown.append)
    assert shown == ["W", "o", "头", "\n"]
    assert report.answer == "Wo头"
    assert report.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Wo头"},
    ]


def test_each_question_is_asked_with_all_that_was_said_before(reciting):
    engine = reciting("Wo")
    asked = []
    submit = engine.submit

    def watched(messages, sampling):
        asked.append([m.content for m in messages])
        return submit(messages, sampling)

    engine.submit = watched
    section = ServeSection(max_new_tokens=50, temperature=0, system_prompt="S")
    questions = [Message("user", "a"), Message("user", "b", "context")]
    report = chat(engine, section, questions, show=lambda text: None)
    assert asked == [["S", "a"], ["S", "a", "Wo", "b"]]
    assert report.messages[3] == {"role": "user", "content": "b", "input": "context"}


def test_nothing_asked_is_nothing_said(reciting):
    report = chat(reciting("Wo"), GREEDY, [], show=lambda text: None)
    assert (report.answer, report.messages) == ("", [])
