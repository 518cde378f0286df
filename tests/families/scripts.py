"""Scripts of known families, one a format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from burnish.conversation import Message
from tests.families.chatml_scripts import (
    chatml,
    internlm_2,
    phi_4,
    phi_4_reasoning,
    qwen_3,
    qwen_25,
    smollm_2,
)
from tests.families.script_parts import (
    Part,
    Refused,
    Tools,
    as_json,
    only_last_is_learned,
    system_of,
)


def llama_2(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    system, rest = system_of(messages)
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
    system, rest = system_of(messages)
    listed = "".join("\n\n" + as_json(tool, indent=4) for tool in tools)
    prompt = f"Knows things up to 2023.\n\n{(system or '').strip()}{listed}"
    yield f"<|begin_of_text|>{_headed('system')}{prompt}<|eot_id|>", None
    for i, m in rest:
        yield _headed("ipython" if m.role == "tool" else m.role), None
        said = m.content.strip()
        for call in m.tool_calls:
            said = f'{{"name": "{call["name"]}", "parameters": {as_json(call["arguments"])}}}'
        yield said + "<|eot_id|>", i if m.role == "assistant" else None


def mistral(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    system, rest = system_of(messages)
    yield "<s>", None
    for place, (i, m) in enumerate(rest):
        if m.role == "assistant":
            yield f" {m.content}</s>", i
        else:
            first = f"{system}\n\n" if place == 0 and system is not None else ""
            yield f" [INST] {first}{m.content} [/INST]", None


def mistral_3(messages: Sequence[Message], tools: Tools) -> Iterator[Part]:
    system, rest = system_of(messages)
    if system is not None and not only_last_is_learned(messages):
        raise Refused("the system prompt is gone from a question once it is answered")
    last_question = max(i for i, m in rest if m.role == "user")
    yield "<s>", None
    for i, m in rest:
        if m.role == "user":
            if tools and i == last_question:
                yield f"[AVAILABLE_TOOLS]{as_json(tools)}[/AVAILABLE_TOOLS]", None
            first = f"{system}\n\n" if i == last_question and system is not None else ""
            yield f"[INST]{first}{m.content}[/INST]", None
        elif m.role == "tool":
            yield f'[TOOL_RESULTS]{{"content": {m.content}}}[/TOOL_RESULTS]', None
        elif m.tool_calls:
            yield f"[TOOL_CALLS][{', '.join(map(as_json, m.tool_calls))}]</s>", i
        else:
            yield f"{m.content}</s>", i


def gemma_2(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    if messages[0].role == "system":
        raise Refused("no system prompt")
    yield from gemma_3(messages, ())


def gemma_3(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    system, rest = system_of(messages)
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
        listed = "".join(as_json(tool["function"]) + "\n" for tool in tools)
        yield f"<|system|>\n# Tools\n{listed}", None
    for i, m in enumerate(messages):
        after_answer = i - 1 if i and messages[i - 1].role == "assistant" else None
        yield f"<|{'observation' if m.role == 'tool' else m.role}|>", after_answer
        if m.tool_calls:
            for call in m.tool_calls:
                yield f"{call['name']}\n{as_json(call['arguments'])}", i
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
    system, rest = system_of(messages)
    listed = "".join("\n\n" + as_json(tool["function"]) for tool in tools)
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
                f"{as_json(call['arguments'])}<｜tool▁call▁end｜>"
                for call in m.tool_calls
            )
            called = f"<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>" if calls else m.content
            yield f"{called}<｜end▁of▁sentence｜>", i


def deepseek_r1(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    """Earlier answers lose their reasoning, as a server does not send it back."""
    *earlier, last = messages
    thinks = any(m.train and "</think>" in m.content for m in messages if m.role == "assistant")
    if thinks and not only_last_is_learned(messages):
        raise Refused("the reasoning of earlier answers is stripped")
    said = [replace(m, content=m.content.rpartition("</think>")[2]) for m in earlier]
    yield from deepseek_3([*said, last], ())


def deepseek_r1_thinks(messages: Sequence[Message], _: Tools) -> Iterator[Part]:
    """The prompt opens the block of the last answer, and no other has one."""
    *asked, last = messages
    if not only_last_is_learned(messages) or not last.content.strip():
        raise Refused("only an answer of words is asked for as it is written")
    yield from deepseek_r1(asked, ())
    yield "<｜Assistant｜><think>\n", None
    own = last.content.removeprefix("<think>\n")
    opened = "" if "</think>" in own else "\n</think>\n\n"
    yield f"{opened}{own}<｜end▁of▁sentence｜>", len(asked)


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
    "phi 4, special reasoning": phi_4_reasoning,
    "gpt oss, marked": gpt_oss,
    "command a": command_a,
    "glm 4": glm_4,
    "deepseek 2": deepseek_2,
    "deepseek 3": deepseek_3,
    "deepseek r1": deepseek_r1,
    "deepseek r1, thinks": deepseek_r1_thinks,
    "zephyr": zephyr,
    "plain_zh": _headlines("指令", "输入", "响应"),
    "plain_en": _headlines("Instruction", "Input", "Response"),
}
