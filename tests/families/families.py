"""Families of models: a small tokenizer each, and what a test must know of the format."""

from __future__ import annotations

from dataclasses import dataclass

from tests.families.chatml_templates import (
    CHATML,
    CHATML_MARKED,
    PHI_4,
    PHI_4_REASONING,
    PLAIN_ANSWER,
    SMOLLM_2,
    THINKING_ANSWER,
    qwen,
)
from tests.families.templates import (
    COMMAND_A,
    DEEPSEEK_2,
    DEEPSEEK_3,
    DEEPSEEK_R1,
    DEEPSEEK_R1_THINKS,
    GEMMA_2,
    GEMMA_3,
    GLM_4,
    GPT_OSS,
    LLAMA_2,
    LLAMA_3,
    LLAMA_3_1,
    LLAMA_3_MARKED,
    MISTRAL,
    MISTRAL_3,
    PHI_3,
    ZEPHYR,
)
from tests.families.vocabularies import byte_level, pieces, with_tokens


@dataclass(frozen=True)
class Family:
    """A tokenizer's parts, and what a test must know of the format.

    Attributes:
        template: the chat template, or the name of one of burnish's own.
        special: control tokens.
        plain: control tokens that are not marked as special.
        bos: written before a conversation, where there is one.
        eos: the tokenizer's own end of text.
        stops: what ends an answer, in the order of `stop_token_ids`.
        opener: what the template writes before an answer.
        markers: boundaries of the template that are ordinary text to the tokenizer.
        tools: whether the template writes tools.
        reasons: whether it reads `reasoning_content`.
        vocabulary: `bytes`, `bytes, lines apart`, `pieces` or `pieces after a blank`.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    stops: tuple[str, ...]
    opener: str
    bos: str | None = None
    plain: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    tools: bool = False
    reasons: bool = False
    vocabulary: str = "bytes"

    @property
    def end(self) -> str:
        """What is written behind an answer."""
        return self.stops[0]

    def tokenizer(self):
        """The tokenizer, with the chat template if it is the model's own."""
        kind = self.vocabulary
        if "bytes" in kind:
            backend = byte_level(keeps_lines=kind == "bytes")
        else:
            backend = pieces(prepends=kind != "pieces")
        made = with_tokens(backend, self.special, self.plain, bos=self.bos, eos=self.eos)
        made.chat_template = None if self.template.startswith("plain_") else self.template
        return made


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_THINK = ("<think>", "</think>")
_S = ("<s>", "</s>")
_HEADERS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_TURNS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_SPEAKERS = ("<|system|>", "<|user|>", "<|assistant|>")
_BARS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
_TOOL_BARS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
)
_COMMAND = (
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
)
_AVAILABLE = (
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)


def _im(template: str, **changes) -> Family:
    given = {
        "special": _IM,
        "eos": "<|im_end|>",
        "stops": ("<|im_end|>",),
        "opener": "<|im_start|>",
    }
    return Family(template, **given | changes)


def _s(template: str, **changes) -> Family:
    given = {"special": _S, "bos": "<s>", "eos": "</s>", "stops": ("</s>",), "opener": "[/INST]"}
    return Family(template, **given | {"vocabulary": "pieces after a blank"} | changes)


def _llama(template: str, **changes) -> Family:
    given = {"bos": _HEADERS[0], "eos": "<|eot_id|>", "stops": ("<|eot_id|>",)}
    return Family(template, _HEADERS, opener="<|start_header_id|>", **given | changes)


def _gemma(template: str) -> Family:
    given = {"bos": "<bos>", "eos": "<eos>", "stops": ("<end_of_turn>", "<eos>")}
    return Family(template, _TURNS, opener="<start_of_turn>", vocabulary="pieces", **given)


def _deepseek(template: str, **changes) -> Family:
    given = {"special": _BARS, "bos": _BARS[0], "eos": _BARS[1], "stops": (_BARS[1],)}
    return Family(template, opener="<｜Assistant｜>", **given | changes)


def _plain(name: str, instruction: str, given: str, response: str) -> Family:
    markers = (f"### {instruction}:", f"### {given}:", f"### {response}:")
    return Family(
        name, ("<|endoftext|>",), "<|endoftext|>", ("<|endoftext|>",), markers[2], markers=markers
    )


_DEFAULT = "You are made for tests."

FAMILIES = {
    "chatml": _im(CHATML, eos="<|endoftext|>", stops=("<|im_end|>", "<|endoftext|>")),
    "internlm2": _im(
        "{{ bos_token }}" + CHATML,
        special=(*_S, "<|im_start|>", "<|im_end|>"),
        bos="<s>",
        eos="</s>",
        stops=("<|im_end|>", "</s>"),
    ),
    "chatml, marked": _im(CHATML_MARKED, vocabulary="bytes, lines apart"),
    "smollm2": _im(SMOLLM_2, vocabulary="bytes, lines apart"),
    "qwen2.5": _im(qwen(PLAIN_ANSWER, _DEFAULT), plain=_CALLS, tools=True),
    "qwen3": _im(qwen(THINKING_ANSWER, ""), plain=(*_CALLS, *_THINK), tools=True, reasons=True),
    "qwen3, marked": _im(
        qwen(THINKING_ANSWER, "", marked=True),
        plain=(*_CALLS, *_THINK),
        tools=True,
        reasons=True,
    ),
    "llama 2": _s(LLAMA_2, markers=("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")),
    "llama 3": _llama(LLAMA_3),
    "llama 3, marked": _llama(LLAMA_3_MARKED),
    "llama 3.1": _llama(
        LLAMA_3_1, eos="<|end_of_text|>", stops=("<|eot_id|>", "<|end_of_text|>"), tools=True
    ),
    "mistral": _s(MISTRAL, markers=("[INST]", "[/INST]")),
    "mistral 3": _s(MISTRAL_3, special=(*_S, *_AVAILABLE), tools=True),
    "gemma 2": _gemma(GEMMA_2),
    "gemma 3": _gemma(GEMMA_3),
    "phi 3": Family(
        PHI_3,
        (*_SPEAKERS, "<|endoftext|>", "<|end|>"),
        "<|endoftext|>",
        ("<|end|>", "<|endoftext|>"),
        "<|assistant|>",
    ),
    "phi 4": _im(PHI_4, special=(*_IM, "<|im_sep|>")),
    "phi 4, reasoning": _im(PHI_4_REASONING, special=(*_IM, "<|im_sep|>"), plain=_THINK),
    "phi 4, special reasoning": _im(PHI_4_REASONING, special=(*_IM, "<|im_sep|>", *_THINK)),
    "gpt oss, marked": Family(
        GPT_OSS,
        ("<|endoftext|>", "<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
        "<|return|>",
        ("<|return|>", "<|end|>"),
        "<|start|>",
    ),
    "command a": Family(
        COMMAND_A,
        ("<BOS_TOKEN>", *_COMMAND),
        "<|END_OF_TURN_TOKEN|>",
        ("<|END_OF_TURN_TOKEN|>",),
        "<|CHATBOT_TOKEN|>",
        bos="<BOS_TOKEN>",
    ),
    "glm 4": Family(
        GLM_4,
        ("<|endoftext|>", "[gMASK]", "<sop>", *_SPEAKERS, "<|observation|>"),
        "<|endoftext|>",
        ("<|user|>", "<|observation|>", "<|endoftext|>"),
        "<|assistant|>",
        tools=True,
    ),
    "deepseek 2": _deepseek(DEEPSEEK_2, special=_BARS[:2], markers=("User:", "Assistant:")),
    "deepseek 3": _deepseek(DEEPSEEK_3, special=(*_BARS, *_TOOL_BARS), tools=True),
    "deepseek r1": _deepseek(DEEPSEEK_R1, plain=_THINK),
    "deepseek r1, thinks": _deepseek(DEEPSEEK_R1_THINKS, plain=_THINK),
    "zephyr": _s(ZEPHYR, opener="<|assistant|>", markers=_SPEAKERS, vocabulary="pieces"),
    "plain_zh": _plain("plain_zh", "指令", "输入", "响应"),
    "plain_en": _plain("plain_en", "Instruction", "Input", "Response"),
}
