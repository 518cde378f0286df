"""Scripts of ChatML and its kin: Qwen, SmolLM, InternLM, Phi 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from burnish.conversation import Message
from tests.families.script_parts import Part, Refused, Tools, as_json, system_of


def chatml(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    for i, m in enumerate(messages):
        yield f"<|im_start|>{m.role}\n", None
        yield f"{m.content}<|im_end|>", i if m.role == "assistant" else None
        yield "\n", None


def internlm_2(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    yield "<s>", None
    yield from chatml(messages, tools)


def smollm_2(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    if messages[0].role != "system":
        yield "<|im_start|>system\nYou are a small model.<|im_end|>\n", None
    yield from chatml(messages, tools)


def _qwen(messages: Sequence[Message], tools: Tools, default: str, *, thinks: bool):
    system, rest = system_of(messages)
    system = default if system is None else system
    if tools:
        listed = "".join(as_json(tool) + "\n" for tool in tools)
        yield f"<|im_start|>system\n{system}\n\n# Tools\n{listed}<|im_end|>\n", None
    elif system or messages[0].role == "system":
        yield f"<|im_start|>system\n{system}<|im_end|>\n", None
    last_question = max(i for i, m in rest if m.role == "user")
    for i, m in rest:
        if m.role == "user":
            yield f"<|im_start|>user\n{m.content}<|im_end|>\n", None
        elif m.role == "tool":  # these conversations have one result at a time
            response = f"<tool_response>\n{m.content}\n</tool_response>"
            yield f"<|im_start|>user\n{response}<|im_end|>\n", None
        else:
            yield "<|im_start|>assistant\n", None
            is_open = thinks and i > last_question
            thought = m.reasoning_content
            if is_open and (i == len(messages) - 1 or thought):
                yield f"<think>\n{thought}\n</think>\n\n" + m.content.lstrip("\n"), i
            elif thought and m.train:
                raise Refused("the reasoning of earlier answers is stripped")
            else:
                yield m.content, i
            calls = [f"<tool_call>\n{as_json(c)}\n</tool_call>" for c in m.tool_calls]
            between = "\n" if m.content and calls else ""
            yield between + "\n".join(calls) + "<|im_end|>", i
            yield "\n", None


def qwen_25(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    yield from _qwen(messages, tools, "You are made for tests.", thinks=False)


def qwen_3(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    yield from _qwen(messages, tools, "", thinks=True)


def phi_4(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    for i, m in enumerate(messages):
        yield f"<|im_start|>{m.role}<|im_sep|>", None
        yield f"{m.content}<|im_end|>", i if m.role == "assistant" else None


def phi_4_reasoning(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    if messages[0].role != "system":
        prompt = "Think between <think> and </think>."
        yield f"<|im_start|>system<|im_sep|>{prompt}<|im_end|>", None
    yield from phi_4(messages, tools)
