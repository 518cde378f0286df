"""Twenty-one conversations, of which a few depend on what a family's template can write."""

from __future__ import annotations

from dataclasses import replace

from burnish.conversation import Conversation, Message

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How warm it is.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"name": "weather", "arguments": {"city": "罗马"}}


def talk(*turns: str, system: str | None = None) -> Conversation:
    """User and assistant in turn, after a system prompt if one is given."""
    roles = ("user", "assistant")
    spoken = [Message(roles[i % 2], text) for i, text in enumerate(turns)]
    first = [] if system is None else [Message("system", system)]
    return Conversation((*first, *spoken), "data.jsonl:1")


def _tools() -> Conversation:
    turns = (
        Message("user", "Is it warm in 罗马?"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", '{"celsius": 21}'),
        Message("assistant", "Yes, 21 °C."),
    )
    return Conversation(turns, "tools.jsonl:1", tools=(TOOL,))


def _quiet() -> Conversation:
    turns = talk("Four plus four?", "Nine.", "Sure?", "Eight.", "And ten?", "Ten.").messages
    return Conversation(
        (turns[0], Message("assistant", "Nine.", train=False), *turns[2:]), "data.jsonl:1"
    )


def _reasoning(*, apart: bool) -> Conversation:
    """Apart, where a template reads `reasoning_content`; else within the answer."""
    thought, said = "Ten minus three.\nSo seven.", "Seven."
    answer = (
        Message("assistant", said, reasoning_content=thought)
        if apart
        else Message("assistant", f"<think>\n{thought}\n</think>\n\n{said}")
    )
    return Conversation((Message("user", "Ten minus three?"), answer), "data.jsonl:1")


def _twice(conversation: Conversation) -> Conversation:
    return replace(conversation, messages=conversation.messages * 2)


def conversations(*, end: str, opener: str, reasons: bool) -> dict[str, Conversation]:
    """All of them, by name.

    Args:
        end: what the family writes behind an answer.
        opener: what it writes before one.
        reasons: whether it reads `reasoning_content`.
    """
    long = " ".join(f"{i}. The doctor asks where it hurts." for i in range(60))
    code = "def f(x):\n\tif x:\n        return [x]\n\n\n    return {'a': {}}  # {{ x }}"
    given = Message("user", "Name the colour.", input="a blue boat\n\na blue sea")
    return {
        "single": talk("Where does it hurt?", "Here."),
        "system": talk("Where does it hurt?", "Here.", system="You are a doctor."),
        "two turns": talk("Cough?", "Yes.", "For how long?", "Ten days."),
        "three turns": talk("One?", "1", "Two?", "2 of them", "Three?", "3, all"),
        "empty system": talk("Hello", "Hello again.", system=""),
        "chinese": talk("头痛，怎么办？", "多休息，多喝水。", "还要多久？", "三天。"),
        "emoji": talk("👩‍⚕️🤒?", "🙂👍🏽 é é", "🏳️‍🌈", "1️⃣"),
        "code": talk("Write f.", code, "Why?\n  - a\n  - b", "    indented"),
        "blanks": talk("  \n hello \n\n", "\n\n  Yes \n "),
        "blank answer": talk("Say nothing.", " "),
        "role's name": talk("user", "assistant", "system", "model"),
        "end in the text": talk(
            f"What does {end} do?", f"{end} ends it.", f"And {opener}{opener}", f"Opens. {end}"
        ),
        "long": talk(long, long),
        "input": Conversation((given, Message("assistant", "Blue.")), "data.jsonl:1"),
        "tools": _tools(),
        "reasoning": _reasoning(apart=reasons),
        "reasoning twice": _twice(_reasoning(apart=reasons)),
        "train false": _quiet(),
        "train_on last": talk("One?", "1", "Two?", "2").trained_on("last"),
        "numbers": talk("3.14159 * 2e-10 = ?", "0.000000000628318; 1,000,000", "٣", "½ ²"),
        "right to left": talk("מה שלומך? abc", "بخير، شكرا (ok) 123", "א1", "ب2"),
    }
