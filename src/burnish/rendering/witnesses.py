"""Two checks of a proved answer: that it is there in full, and that the template's marks agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.conversation import Message
from burnish.errors import DataError

Span = tuple[int, int]
"""[start, stop) in the text of a conversation."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of the assistant in the text that the template wrote.

    Attributes:
        message: what it should say.
        start: where the prompt ends that a server would render for it.
        stop: where the answer ends, its end token included.
    """

    message: Message
    start: int
    stop: int


def find_said(answer: Answer, text: str, marks: re.Pattern[str]) -> list[Span]:
    """Where each part of an answer stands, in order: reasoning, then what is said.

    Args:
        answer: where to look.
        text: the whole conversation.
        marks: what a template takes an answer apart by, such as `</think>`.

    Raises:
        DataError: the template leaves out or changes a part.
    """
    message, at = answer.message, answer.start
    found: list[Span] = []
    for part in (message.reasoning_content, *marks.split(message.content)):
        part = part.strip()
        start = text.find(part, at, answer.stop)
        if start < 0:
            what = "reasoning_content and answer" if message.reasoning_content else "answer"
            raise DataError(
                "chat template",
                f"this chat template does not write the whole {what} of a turn that is to be "
                f"learned; it leaves out {_shown(part)}.",
                "Choose a model whose chat template does, or leave such rows out.",
            )
        at = start + len(part)
        found.append((start, at))
    return [span for span in found if span[0] < span[1]]


def check_marks(
    text: str, said: Sequence[Span], outside: Sequence[Span], marked: Sequence[Span]
) -> None:
    """Checks that a template's `{% generation %}` marks hold the answers and nothing else.

    They may begin earlier than an answer, where the prompt already opens it, and end later, with
    its end token: templates differ in that.

    Args:
        text: the whole conversation.
        said: where the answers' own words stand.
        outside: the stretches between an answer and the opening of the next.
        marked: the text between marks.

    Raises:
        DataError: they mark something else.
    """
    for start, stop in said:
        if not any(a <= start and stop <= b for a, b in marked):
            raise _disagreeing(f"leave out the answer {_shown(text[start:stop])}")
    for start, stop in outside:
        for a, b in marked:
            within = text[max(a, start) : min(b, stop)]
            if within.strip():
                raise _disagreeing(f"hold {_shown(within)}, which nobody answers")


def _disagreeing(how: str) -> DataError:
    return DataError(
        "chat template",
        f"its generation marks {how}, so they and the prompts that a server would render disagree "
        "about what is learned.",
        "Mend the marks in the model's chat template, or take them out.",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
