"""The chat verb: a conversation in the terminal, answers streamed as they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

from burnish.conversation import Message
from burnish.generation import Sampling
from burnish.recipe import ServeSection
from burnish.serving.engine import Engine


class ChatReport(BaseModel):
    """What was said, in order; `answer` is the last thing that the model said."""

    model_config = ConfigDict(frozen=True)

    answer: str
    messages: list[dict[str, str]]


def chat(
    engine: Engine,
    section: ServeSection,
    questions: Iterable[Message],
    *,
    show: Callable[[str], None],
) -> ChatReport:
    """Answers question after question, each with the whole conversation before it.

    Args:
        engine: answers conversations.
        section: sampling settings and the system prompt.
        questions: what the user says, one message at a time.
        show: takes each piece of an answer as it comes, and a line break at its end.
    """
    messages = [Message("system", section.system_prompt)] if section.system_prompt else []
    answer = ""
    sampling = Sampling(
        max_new_tokens=section.max_new_tokens,
        temperature=section.temperature,
        top_p=section.top_p,
        repetition_penalty=section.repetition_penalty,
    )
    for question in questions:
        messages.append(question)
        job = engine.submit(messages, sampling)
        pieces = []
        try:
            for piece in job.texts():
                pieces.append(piece)
                show(piece)
        finally:
            job.cancelled.set()
        show("\n")
        answer = "".join(pieces)
        messages.append(Message("assistant", answer))
    return ChatReport(answer=answer, messages=[m.as_dict() for m in messages])
