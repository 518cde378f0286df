"""Control tokens of chat templates, and prompt markers, that leaked into the text of a row.

Source: the chat templates of Qwen, Llama 2 and 3, Mistral, Phi, Gemma, DeepSeek, ChatGLM and
InternLM as published with their tokenizers.
"""

from __future__ import annotations

import re

from burnish.cleaning.code_spans import without_code

_ROLE = r"(?:(?:system|user|assistant|model|tool|observation)(?=\n|\Z))?"
_TOKEN = (
    r"<\|start_header_id\|>\w{1,20}<\|end_header_id\|>"
    rf"|<\|im_start\|>{_ROLE}|<start_of_turn>{_ROLE}|<end_of_turn>"
    r"|<\|[A-Za-z][\w ]{0,40}\|>"  # Qwen, Llama 3, Phi, ChatGLM, GPT
    r"|<｜[^<>｜\n]{1,40}｜>"  # DeepSeek: <｜end▁of▁sentence｜>
    r"|</?s>|<(?:bos|eos|pad|unk|sop|eop|eoa|eoh)>"
    r"|\[/?INST\]|<</?SYS>>|\[gMASK\]"
)
_MARKER = r"###\s?(?:指令|响应|Instruction|Response|Human|Assistant)\s?[:：]"
_LAST_MARKER = r"###\s?(?:指令|输入|响应|Instruction|Input|Response|Human|Assistant)\s?[:：]"

_AT_START = re.compile(rf"(?:\s*(?:{_TOKEN}|{_MARKER}))+(?:\s*\n|\s*)")  # not the indentation
_AT_END = re.compile(rf"(?:{_TOKEN}|(?:\A|(?<=\n))[ \t]*{_LAST_MARKER})\Z")
_ANYWHERE = re.compile(rf"{_TOKEN}|(?:\A|(?<=\n)){_MARKER}")
_LAST_LETTERS = (">", "]", ":", "：", "system", "user", "assistant", "model", "tool", "observation")
_LONGEST = 80
"""No token or marker is longer."""


def strip_special_tokens(text: str) -> str:
    """The text without control tokens and prompt markers at its ends.

    A heading `### 输入:` goes only at the end: at the start it may begin a problem statement.
    """
    found = _AT_START.match(text)
    if found:
        text = text[found.end() :]
    while (bare := text.rstrip()).endswith(_LAST_LETTERS):
        last = _AT_END.search(bare, max(0, len(bare) - _LONGEST))
        if last is None:
            return text
        text = bare[: last.start()].rstrip()
    return text


def has_special_tokens(text: str) -> bool:
    """Whether a control token or prompt marker stands anywhere outside code."""
    if "<" not in text and "[" not in text and "###" not in text:
        return False
    return _ANYWHERE.search(text) is not None and bool(_ANYWHERE.search(without_code(text)))
