"""Answers of base and adapter side by side, in a CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.conversation import Conversation, Message
from burnish.generation import Sampling, decode, generate
from burnish.progress import track
from burnish.rendering import render_prompt, stop_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")

HEADER = ("origin", "question", "input", "reference", "base", "adapter")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what a good answer says (empty for prompts of the recipe)."""

    messages: tuple[Message, ...]
    origin: str
    reference: str = ""
    tools: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, conversation: Conversation) -> Question:
        """What a conversation asks last; its answer, calls as JSON, is the reference."""
        last = conversation.messages[-1]
        calls = (json.dumps(call, ensure_ascii=False) for call in last.tool_calls)
        reference = "\n".join(filter(None, (last.content, *calls)))
        return cls(conversation.question, conversation.origin, reference, conversation.tools)


def answer_all(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    what: str,
) -> list[str]:
    """Greedy answers, one question at a time so that padding can't change one."""
    stop_ids = stop_token_ids(tokenizer)
    sampling = Sampling(max_new_tokens=max_new_tokens)
    answers = []
    for question in track(questions, what, total=len(questions), unit="answers"):
        prompt = render_prompt(question.messages, tokenizer, tools=question.tools)
        (ids,) = generate(model, [prompt], sampling, stop_ids=stop_ids)
        answers.append(decode(ids, tokenizer))
    return answers


def write_answers(
    path: Path, questions: Sequence[Question], base: Sequence[str], adapter: Sequence[str]
) -> None:
    """Writes answers.csv: UTF-8 with a byte order mark, as spreadsheets want it."""
    # Half a surrogate pair, which JSON can hold and UTF-8 can't, becomes its escape.
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for question, base_answer, adapter_answer in zip(questions, base, adapter, strict=True):
            last = question.messages[-1]
            row = (
                question.origin,
                last.content,
                last.input,
                question.reference,
                base_answer,
                adapter_answer,
            )
            writer.writerow([safe_cell(cell) for cell in row])


def safe_cell(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would run it as a formula.

    Source: OWASP, "CSV Injection", full-width forms included.
    """
    risky = text.startswith(("\t", "\r", "\n")) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if risky else text
