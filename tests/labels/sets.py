"""Made-up sets of examples, clean ones and ones with a fault planted in them."""

from __future__ import annotations

import json

from datasets import Dataset

from burnish.conversation import IGNORE_INDEX, Conversation, Message
from burnish.labels.audit import audit_labels
from burnish.rendering import render_example
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import WITH_TOOLS, of_shape, talk, tokenizer_with, tool_talk

NUM_ROWS = 10
START, END, PAD = 1, 2, 0


def rendered(conversations, tokenizer, max_length=2000):
    """Rows as prepare saves them."""
    examples = [render_example(c, tokenizer, max_length) for c in conversations]
    return [
        {
            "input_ids": e.input_ids,
            "labels": e.labels,
            "num_cut": e.num_cut,
            "origin": f"data.jsonl:{i + 1}",
        }
        for i, e in enumerate(examples)
    ]


def others(rows):
    """The rows as somebody else would save them: tokens and labels alone."""
    return [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in rows]


def plain_rows(tokenizer=None):
    """Ten rows of question and answer."""
    talks = [talk(f"Question {i}?", f"Answer {i * 7}.") for i in range(NUM_ROWS)]
    return rendered(talks, tokenizer or byte_tokenizer())


def audited(rows, tokenizer=None, folder=None):
    """The report of some rows."""
    split = Dataset.from_list(rows)
    return audit_labels({"": split}, tokenizer or byte_tokenizer(), folder, "a set")


def found(rows, tokenizer=None, folder=None):
    """Level and rows of each finding."""
    report = audited(rows, tokenizer, folder)
    return {f.name: (f.level, f.count) for f in report.findings}


def model_files(folder, **config):
    """A model's folder without weights, its files agreeing with the byte tokenizer."""
    folder.mkdir(exist_ok=True)
    ids = {"eos_token_id": END, "bos_token_id": START, "pad_token_id": PAD}
    shape = {"vocab_size": len(byte_tokenizer()), "max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(shape | ids | config))
    (folder / "generation_config.json").write_text(json.dumps(ids))
    return folder


def clean_sets():
    """Six sets in which nothing is wrong, with their tokenizers, by name."""
    own, plain, tools = byte_tokenizer(), of_shape("plain_zh"), tokenizer_with(WITH_TOOLS)
    single = [talk(f"Question {i}?", f"Answer {i}.") for i in range(NUM_ROWS)]
    several = [talk("a", f"one {i}", "b", "two", "c", "three\n") for i in range(NUM_ROWS)]
    chinese = [talk("头痛怎么办？", f"多喝水，休息 {i} 天。🩺") for i in range(NUM_ROWS)]
    passages = [
        Conversation((Message("text", f"第 {i} 段文字。"),), f"x:{i}") for i in range(NUM_ROWS)
    ]
    return {
        "single turn": (own, rendered(single, own)),
        "several turns": (own, rendered(several, own)),
        "tools": (tools, rendered([tool_talk()] * NUM_ROWS, tools)),
        "Chinese": (own, rendered(chinese, own)),
        "plain template": (plain, rendered(chinese, plain)),
        "passages": (own, rendered(passages, own)),
    }


def masked(row, at):
    """The row with one label taken away."""
    labels = list(row["labels"])
    labels[at] = IGNORE_INDEX
    return row | {"labels": labels}


def with_tokens(row, at, tokens):
    """The row with tokens inserted, which carry loss where their neighbour does."""
    ids, labels = list(row["input_ids"]), list(row["labels"])
    carries = labels[at] != IGNORE_INDEX
    ids[at:at] = tokens
    labels[at:at] = tokens if carries else [IGNORE_INDEX] * len(tokens)
    return row | {"input_ids": ids, "labels": labels}
