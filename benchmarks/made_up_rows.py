"""Rows for benchmarks, made up: seeded, of any number, with the faults that real files have.

Words are drawn from a made-up vocabulary as unevenly as in real text, so that rows share words but
no long runs of them. Of 100 rows about 2 are equal to an earlier one and 5 nearly so.
"""

from __future__ import annotations

import csv
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

NUM_WORDS = 20_000
HAN = [chr(c) for c in range(0x4E00, 0x4E00 + 2500)]


def made_up_rows(num_rows: int, seed: int = 0, num_chars: int = 200) -> Iterator[dict[str, str]]:
    """Rows of instruction, input and output, about `num_chars` characters each."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(HAN, k=draw.choice((1, 2, 2, 2, 3)))) for _ in range(NUM_WORDS)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(NUM_WORDS)))
    recent: list[dict[str, str]] = []
    for _ in range(num_rows):
        chance = draw.random()
        if recent and chance < 0.02:
            row = dict(draw.choice(recent))
        elif recent and chance < 0.07:
            row = near_copy(draw.choice(recent), draw)
        else:
            question = _text(words, weights, num_chars // 4, draw) + "？"
            answer = _text(words, weights, num_chars - num_chars // 4, draw) + "。"
            row = {"instruction": question, "input": "", "output": answer}
            recent.append(row)
            if len(recent) > 5000:
                recent.pop(draw.randrange(5000))
            row = _with_fault(row, draw)
        yield row


def near_copy(row: dict[str, str], draw: random.Random) -> dict[str, str]:
    """The row with one character in sixty changed and a polite end."""
    copy = dict(row)
    for name in ("instruction", "output"):
        text = list(copy[name])
        for _ in range(max(1, len(text) // 60)):
            text[draw.randrange(len(text))] = draw.choice("的一是了我不人在他有")
        copy[name] = "".join(text)
    copy["output"] += draw.choice(["", "谢谢。", "祝您健康！"])
    return copy


def _text(words: list[str], weights: list[float], num_chars: int, draw: random.Random) -> str:
    text = ""
    while len(text) < num_chars:
        text += "".join(draw.choices(words, cum_weights=weights, k=8)) + "，"
    return text[: num_chars - 1]


def _with_fault(row: dict[str, str], draw: random.Random) -> dict[str, str]:
    answer = row["output"]
    fault = draw.random()
    if fault < 0.02:
        answer = f"<p>{answer}</p>"
    elif fault < 0.03:
        answer = answer.replace("，", ",", 2)
    elif fault < 0.04:
        answer = "１２０次。。。。" + answer
    elif fault < 0.05:
        answer = answer[: len(answer) // 2] + "，"
    elif fault < 0.055:
        answer = ""
    elif fault < 0.06:
        answer = f"{answer} 电话13812345678"
    return {**row, "output": answer}


def write_csv(path: Path, num_rows: int, seed: int = 0) -> None:
    """The rows as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["instruction", "input", "output"])
        writer.writeheader()
        writer.writerows(made_up_rows(num_rows, seed))
