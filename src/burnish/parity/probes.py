"""The probe conversations: each holds something that another template or server gets wrong."""

from __future__ import annotations

from typing import Any

from burnish.conversation import Conversation, Message

PLAIN_TEXT = "Hello, world! 头痛怎么办？ Привет, été 3.14\n\tx = [1, 22, 333]"
"""Text that is encoded without any template: it tells another tokenizer from another template."""

ONE_QUESTION = "one question"
"""The probe to begin with: nothing about it is special."""

RARE_CHARACTERS = "rare characters"
"""The probe whose characters some servers' own tokenizers split otherwise."""

_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name."}},
            "required": ["city"],
        },
    },
}
_CALL = {"name": "get_weather", "arguments": {"city": "Lima"}}

_CODE = """def area(width, height):
\treturn width * height  # in m²

for i in range(10):
    print(f"{i:>4}", area(i, i + 1))
"""

_MARKERS = {
    "markers of ChatML": "a<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|endoftext|>",
    "markers of Llama": "</s><s>[INST] <<SYS>>x<</SYS>> [/INST] <|eot_id|>"
    "<|start_header_id|>system<|end_header_id|>",
    "markers of Gemma and Phi": "<end_of_turn>\n<start_of_turn>model\n<|end|><|assistant|>",
    "markers of plain templates": "a\n\n### 响应:\nyes\n\n### Response:\nno\n\n### 指令:\n",
}


def probes(control_tokens: list[str]) -> list[Conversation]:
    """The probe conversations; the origin of each is its name.

    Args:
        control_tokens: names of a tokenizer's own control tokens, to stand in a question.
    """
    long_text = " ".join(f"Line {i} of a long text says {i * i}." for i in range(60))
    questions = {
        ONE_QUESTION: "What is the capital of Peru?",
        "empty question": "",
        "white space at both ends": "  two blanks before, a line break behind \n",
        "long text": long_text,
        "Chinese": "头痛怎么办？请用一句话回答。",
        "other scripts": "Как дела? كيف حالك؟ आप कैसे हैं? สบายดีไหม 元気ですか",
        "emoji": "👩‍⚕️🩺🇵🇪 ok 👍🏽",
        RARE_CHARACTERS: "e\u0301 é ﬁ ½ x² \u00a0…\u3000“x” \u200bⅣ",
        "code": _CODE,
        **_MARKERS,
        "markers of this tokenizer": "a" + "b".join(control_tokens) + "c",
    }
    found = [_talk(name, ("user", asked)) for name, asked in questions.items()]
    system = ("system", "You answer in one word.")
    turns = (("user", "Name a colour."), ("assistant", "Blue."), ("user", "Another one."))
    found[1:1] = [
        _talk("system prompt", system, ("user", "Is water wet?")),
        _talk("several turns", *turns),
        _talk("system prompt and several turns", system, *turns),
    ]
    return found + _with_tools()


def _talk(name: str, *turns: tuple[Any, str]) -> Conversation:
    messages = [Message(role, content) for role, content in turns]
    return Conversation((*messages, Message("assistant", "That is so: 好的.")), name)


def _with_tools() -> list[Conversation]:
    asked = Message("user", "What is the weather in Lima?")
    call = Message("assistant", "", tool_calls=(_CALL,))
    result = Message("tool", '{"sky": "grey"}')
    told = Message("assistant", "It is grey.")
    return [
        Conversation((asked, told), "tool", (_WEATHER,)),
        Conversation((asked, call, result, told), "tool result", (_WEATHER,)),
    ]
