"""What each family's format says of a conversation, written down by hand.

A script is a list of parts: a text, and the number of the message that answers with it, or None.
It is written from the description of the format, message by message; no template is rendered. What
answers is what a model must write itself: its words as the format has them, and the token that
ends its turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.conversation import IGNORE_INDEX, Conversation, Message
from tests.families.families import FAMILIES

Part = tuple[str, int | None]
Tools = Sequence[dict[str, Any]]


class Refused(Exception):
    """The format has no place for this conversation, or does not say what is to be learned."""


def script(name: str, conversation: Conversation) -> list[Part]:
    """The parts of a conversation in a family's format.

    Raises:
        Refused: it can't be written, or an answer that is to be learned is not written in full.
    """
    messages = list(conversation.messages)
    if not name.startswith("plain_"):
        messages = [_with_input(m) for m in messages]
    if conversation.tools and not FAMILIES[name].tools:
        raise Refused("it knows no tools")
    return [part for part in SCRIPTS[name](messages, conversation.tools) if part[0]]


@dataclass(frozen=True)
class Expected:
    """Ids and labels; `apart` where prompt and answer are encoded apart, else `equal`.

    They are where the tokenizer merges the end of the prompt with the beginning of the answer: a
    server's prompt ends there too. That is possible for the last answer; earlier ones are refused.
    """

    input_ids: list[int]
    labels: list[int]
    kind: str = "equal"


def expected(name: str, conversation: Conversation, tokenizer) -> Expected:
    """What a family's tokenizer must make of a conversation, up to the last learned answer.

    Raises:
        Refused: as `script`.
    """
    parts = script(name, conversation)
    text, learned = "".join(part for part, _ in parts), _learned_spans(parts, conversation)
    ids, spans = _encode(text, tokenizer)
    merged = [a for a, _ in learned if any(start < a < stop for start, stop in spans)]
    if merged and merged != [learned[-1][0]]:
        raise Refused("an earlier answer merges with what stands before it")
    if merged:
        cut = merged[0]
        (before, first), (behind, second) = (
            _encode(t, tokenizer) for t in (text[:cut], text[cut:])
        )
        ids, spans = before + behind, first + [(a + cut, b + cut) for a, b in second]
    labels = [
        token if any(a <= start and stop <= b for a, b in learned) else IGNORE_INDEX
        for token, (start, stop) in zip(ids, spans, strict=True)
    ]
    end = max(i for i, label in enumerate(labels) if label != IGNORE_INDEX) + 1
    return Expected(ids[:end], labels[:end], "apart" if merged else "equal")


def expected_texts(name: str, conversation: Conversation) -> tuple[str, list[str]]:
    """The text up to the last learned answer, and each answer as it is learned."""
    parts = script(name, conversation)
    text, learned = "".join(part for part, _ in parts), _learned_spans(parts, conversation)
    return text[: learned[-1][1]], [text[start:stop] for start, stop in learned]


def _learned_spans(parts: Sequence[Part], conversation: Conversation) -> list[tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    at = 0
    for text, answer in parts:
        if answer is not None and conversation.messages[answer].train:
            found[answer] = (found.get(answer, (at, at))[0], at + len(text))
        at += len(text)
    return list(found.values())


def _encode(text: str, tokenizer) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(found["input_ids"]), list(found["offset_mapping"])


def _with_input(message: Message) -> Message:
    if not message.input:
        return message
    return replace(message, content=message.content + "\n\n" + message.input, input="")


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def _system(messages: Sequence[Message]) -> tuple[str | None, list[tuple[int, Message]]]:
    """The system prompt, and the other messages with their numbers."""
    numbered = list(enumerate(messages))
    if messages[0].role == "system":
        return messages[0].content, numbered[1:]
    return None, numbered


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
    system, rest = _system(messages)
    system = default if system is None else system
    if tools:
        listed = "".join(_json(tool) + "\n" for tool in tools)
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
            calls = [f"<tool_call>\n{_json(c)}\n</tool_call>" for c in m.tool_calls]
            between = "\n" if m.content and calls else ""
            yield between + "\n".join(calls) + "<|im_end|>", i
            yield "\n", None


def qwen_25(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    yield from _qwen(messages, tools, "You are made for tests.", thinks=False)


def qwen_3(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    yield from _qwen(messages, tools, "", thinks=True)


def llama_2(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    system, rest = _system(messages)
    for place, (i, m) in enumerate(rest):
        if m.role == "assistant":
            yield f" {m.content.strip()} </s>", i
            continue
        asked = m.content
        if place == 0 and system:
            asked = f"<<SYS>>\n{system}\n<</SYS>>\n\n{asked}"
        yield f"<s>[INST] {asked.strip()} [/INST]", None


def _headed(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def llama_3(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    yield "<|begin_of_text|>", None
    for i, m in enumerate(messages):
        yield _headed(m.role), None
        yield m.content.strip() + "<|eot_id|>", i if m.role == "assistant" else None


def llama_31(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    system, rest = _system(messages)
    listed = "".join("\n\n" + _json(tool, indent=4) for tool in tools)
    prompt = f"Knows things up to 2023.\n\n{(system or '').strip()}{listed}"
    yield f"<|begin_of_text|>{_headed('system')}{prompt}<|eot_id|>", None
    for i, m in rest:
        yield _headed("ipython" if m.role == "tool" else m.role), None
        said = m.content.strip()
        for call in m.tool_calls:
            said = f'{{"name": "{call["name"]}", "parameters": {_json(call["arguments"])}}}'
        yield said + "<|eot_id|>", i if m.role == "assistant" else None


def mistral(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    system, rest = _system(messages)
    yield "<s>", None
    for place, (i, m) in enumerate(rest):
        if m.role == "assistant":
            yield f" {m.content}</s>", i
        else:
            first = f"{system}\n\n" if place == 0 and system is not None else ""
            yield f" [INST] {first}{m.content} [/INST]", None


def mistral_3(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    if messages[0].role == "system":
        raise Refused("the system prompt is gone from the question once it is answered")
    last_question = max(i for i, m in enumerate(messages) if m.role == "user")
    yield "<s>", None
    for i, m in enumerate(messages):
        if m.role == "user":
            if tools and i == last_question:
                yield f"[AVAILABLE_TOOLS]{_json(tools)}[/AVAILABLE_TOOLS]", None
            yield f"[INST]{m.content}[/INST]", None
        elif m.role == "tool":
            yield f'[TOOL_RESULTS]{{"content": {m.content}}}[/TOOL_RESULTS]', None
        elif m.tool_calls:
            yield f"[TOOL_CALLS][{', '.join(map(_json, m.tool_calls))}]</s>", i
        else:
            yield f"{m.content}</s>", i


def gemma_2(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    if messages[0].role == "system":
        raise Refused("no system prompt")
    yield from gemma_3(messages, ())


def gemma_3(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    system, rest = _system(messages)
    yield "<bos>", None
    for place, (i, m) in enumerate(rest):
        if m.role == "assistant":
            yield "<start_of_turn>model\n", None
            yield f"{m.content.strip()}<end_of_turn>", i
            yield "\n", None
        else:
            first = f"{system}\n\n" if place == 0 and system is not None else ""
            yield f"<start_of_turn>user\n{first}{m.content.strip()}<end_of_turn>\n", None


def phi_3(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    for i, m in enumerate(messages):
        yield f"<|{m.role}|>\n", None
        yield f"{m.content}<|end|>", i if m.role == "assistant" else None
        yield "\n", None
    yield "<|endoftext|>", None


def phi_4(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    for i, m in enumerate(messages):
        yield f"<|im_start|>{m.role}<|im_sep|>", None
        yield f"{m.content}<|im_end|>", i if m.role == "assistant" else None


def phi_4_reasoning(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    if messages[0].role != "system":
        prompt = "Think between <think> and </think>."
        yield f"<|im_start|>system<|im_sep|>{prompt}<|im_end|>", None
    yield from phi_4(messages, tools)


def gpt_oss(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    yield "<|start|>system<|message|>Made for tests.<|end|>", None
    for i, m in enumerate(messages):
        if m.role == "assistant":
            end = "<|return|>" if i == len(messages) - 1 else "<|end|>"
            yield "<|start|>assistant", None
            yield f"<|channel|>final<|message|>{m.content}{end}", i
        else:
            role = "developer" if m.role == "system" else m.role
            yield f"<|start|>{role}<|message|>{m.content}<|end|>", None


def command_a(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    yield "<BOS_TOKEN>", None
    for i, m in enumerate(messages):
        if m.role == "assistant":
            yield "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>", None
            yield f"{m.content}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", i
        else:
            role = f"<|START_OF_TURN_TOKEN|><|{m.role.upper()}_TOKEN|>"
            yield f"{role}{m.content}<|END_OF_TURN_TOKEN|>", None
    yield "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", None


def glm_4(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    yield "[gMASK]<sop>", None
    if tools:
        listed = "".join(_json(tool["function"]) + "\n" for tool in tools)
        yield f"<|system|>\n# Tools\n{listed}", None
    for i, m in enumerate(messages):
        after_answer = i - 1 if i and messages[i - 1].role == "assistant" else None
        yield f"<|{'observation' if m.role == 'tool' else m.role}|>", after_answer
        if m.tool_calls:
            for call in m.tool_calls:
                yield f"{call['name']}\n{_json(call['arguments'])}", i
        else:
            yield f"\n{m.content}", i if m.role == "assistant" else None


def deepseek_2(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    yield "<｜begin▁of▁sentence｜>", None
    for i, m in enumerate(messages):
        if m.role == "assistant":
            yield "Assistant:", None
            yield f" {m.content}<｜end▁of▁sentence｜>", i
        else:
            yield f"{'User: ' if m.role == 'user' else ''}{m.content}\n\n", None


def deepseek_3(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    system, rest = _system(messages)
    listed = "".join("\n\n" + _json(tool["function"]) for tool in tools)
    yield f"<｜begin▁of▁sentence｜>{system or ''}{listed}", None
    for i, m in rest:
        if m.role == "user":
            yield f"<｜User｜>{m.content}", None
        elif m.role == "tool":
            yield f"<｜tool▁output▁begin｜>{m.content}<｜tool▁output▁end｜>", None
        else:
            if messages[i - 1].role != "tool":
                yield "<｜Assistant｜>", None
            calls = "".join(
                f"<｜tool▁call▁begin｜>{call['name']}<｜tool▁sep｜>"
                f"{_json(call['arguments'])}<｜tool▁call▁end｜>"
                for call in m.tool_calls
            )
            called = f"<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>" if calls else m.content
            yield f"{called}<｜end▁of▁sentence｜>", i


def deepseek_r1(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    if any("</think>" in m.content for m in messages if m.role == "assistant" and m.train):
        raise Refused("reasoning is stripped")
    yield from deepseek_3(messages, ())


def zephyr(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    for i, m in enumerate(messages):
        yield f"<|{m.role}|>\n", None
        yield f"{m.content}</s>", i if m.role == "assistant" else None
        yield "\n", None


def _headlines(instruction: str, given: str, response: str):
    def write(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
        for i, m in enumerate(messages):
            if m.role == "assistant":
                yield f"### {response}:\n", None
                yield f"{m.content}<|endoftext|>", i
                yield "\n\n", None
            elif m.role == "user":
                context = f"### {given}:\n{m.input}\n\n" if m.input else ""
                yield f"### {instruction}:\n{m.content}\n\n{context}", None
            else:
                yield f"{m.content}\n\n", None

    return write


SCRIPTS: dict[str, Callable[[Sequence[Message], Tools], Iterator[Part]]] = {
    "chatml": chatml,
    "internlm2": internlm_2,
    "chatml, marked": chatml,
    "smollm2": smollm_2,
    "qwen2.5": qwen_25,
    "qwen3": qwen_3,
    "qwen3, marked": qwen_3,
    "llama 2": llama_2,
    "llama 3": llama_3,
    "llama 3, marked": llama_3,
    "llama 3.1": llama_31,
    "mistral": mistral,
    "mistral 3": mistral_3,
    "gemma 2": gemma_2,
    "gemma 3": gemma_3,
    "phi 3": phi_3,
    "phi 4": phi_4,
    "phi 4, reasoning": phi_4_reasoning,
    "gpt oss, marked": gpt_oss,
    "command a": command_a,
    "glm 4": glm_4,
    "deepseek 2": deepseek_2,
    "deepseek 3": deepseek_3,
    "deepseek r1": deepseek_r1,
    "zephyr": zephyr,
    "plain_zh": _headlines("指令", "输入", "响应"),
    "plain_en": _headlines("Instruction", "Input", "Response"),
}
