#!/usr/bin/env python3
"""Recall, false drops, seconds and memory of the search for near-duplicates, beside datasketch.

    python benchmarks/duplicates.py                                # 20,000 rows + 5,000 copies
    python benchmarks/duplicates.py --rows 1000000 --copies 50000 --edits light --peers none
    python benchmarks/duplicates.py --file rows.jsonl --edits heavy
    pip install datasketch                                         # what the peer needs

Rows are made up: half Chinese-like, half English-like, seeded, about 200 characters each. Or they
come from a .json, .jsonl or .csv file (UTF-8) with the columns instruction, input and output, of
which exact copies are left out. Copies are planted: of random rows, with random characters replaced
(light: one in sixty), or replaced, inserted and deleted (heavy: 3 %; extreme: 5 %), and with a
polite end, other punctuation or other case. They come behind the rows.

`recall` is the share of copies of which either the copy or its original goes; `false` the share of
rows that go for a row of which they are no copy (in real files, some of these are copies indeed).
Each measurement is a process of its own on one core; `MiB` is what its memory grew by at most.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HAN = [chr(c) for c in range(0x4E00, 0x4E00 + 2500)]
LATIN = "etaoinshrdlucmfwypvbgkjqxz"
NUM_WORDS = 20_000
EDITS = {"light": 1 / 60, "heavy": 0.03, "extreme": 0.05}
ENDS = {True: ["", "谢谢", "。", "祝您健康！"], False: ["", " Thanks.", ".", " Hope this helps!"]}

Row = tuple[str, str]


@dataclass(frozen=True)
class Task:
    """Rows, the planted copies behind them, and of which row each is a copy."""

    rows: list[Row]
    originals: list[int]

    @property
    def num_rows(self) -> int:
        """How many rows are no copies."""
        return len(self.rows) - len(self.originals)

    def family(self, row: int) -> int:
        """The row that this one is a copy of; itself if of none."""
        return row if row < self.num_rows else self.originals[row - self.num_rows]


def made_up_rows(number: int, draw: random.Random) -> list[Row]:
    """Questions and answers of words drawn as unevenly as in real text."""
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(NUM_WORDS)))
    chinese = ["".join(draw.choices(HAN, k=draw.choice((1, 2, 2, 3)))) for _ in range(NUM_WORDS)]
    english = [
        "".join(draw.choices(LATIN, range(26, 0, -1), k=draw.randint(2, 10))) + " "
        for _ in range(NUM_WORDS)
    ]
    rows = []
    for index in range(number):
        words = english if index % 2 else chinese
        size = 9 if index % 2 else 25
        question = "".join(draw.choices(words, cum_weights=weights, k=draw.randint(5, size)))
        answer = "".join(draw.choices(words, cum_weights=weights, k=draw.randint(size, 5 * size)))
        rows.append((question + "?", answer + "."))
    return rows


def rows_of(path: Path) -> list[Row]:
    """The rows of a file, each once."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        fields = list(csv.DictReader(text.splitlines(keepends=True)))
    elif text.lstrip().startswith("["):
        fields = json.loads(text)
    else:
        fields = [json.loads(line) for line in text.splitlines() if line.strip()]
    pairs = (
        (" ".join(f"{row['instruction']} {row.get('input') or ''}".split()), row["output"].strip())
        for row in fields
    )
    return list(dict.fromkeys(pairs))


def planted(rows: list[Row], number: int, share: float, draw: random.Random) -> Task:
    """The rows with copies of random ones behind them."""
    originals = [draw.randrange(len(rows)) for _ in range(number)]
    return Task(rows + [_copy(rows[i], share, draw) for i in originals], originals)


def _copy(row: Row, share: float, draw: random.Random) -> Row:
    question, answer = (_edited(text, share, draw) for text in row)
    answer += draw.choice(ENDS[answer[:1] >= "\u3000"])
    if draw.random() < 0.2:
        question, answer = question.upper(), answer.replace("，", " , ").replace(". ", "。")
    return question, answer


def _edited(text: str, share: float, draw: random.Random) -> str:
    letters = list(text)
    alphabet = "的一是了我人在他有" if text[:1] >= "\u3000" else LATIN
    # As many edits as the share says on average, so that short parts are edited at the same rate.
    for _ in range(int(len(text) * share + draw.random())):
        at = draw.randrange(len(letters))
        kind = 0 if share < 0.02 else draw.randrange(3)
        letters[at : at + (kind != 1)] = (
            [] if kind == 2 and len(letters) > 1 else [draw.choice(alphabet)]
        )
    return "".join(letters)


def ours(rows: list[Row]) -> list[int]:
    """For each row the one that is kept instead, or -1."""
    import numpy as np

    from burnish.cleaning.duplicates import exact_key, find_duplicates, parts_of, signatures
    from burnish.cleaning.likeness import Likeness
    from burnish.conversation import Conversation, Message

    def conversation(row: int) -> Conversation:
        question, answer = rows[row]
        return Conversation((Message("user", question), Message("assistant", answer)), "")

    started = time.process_time()
    keys = np.empty((len(rows), 16), np.uint8)
    signed = []
    for start in range(0, len(rows), 2000):
        chunk = [conversation(row) for row in range(start, min(start + 2000, len(rows)))]
        for row, each in enumerate(chunk, start):
            keys[row] = np.frombuffer(exact_key(each), np.uint8)
        signed.append(signatures(chunk))
    print(f"signatures {time.process_time() - started:.1f} s", end=", ", file=sys.stderr)
    all_signed = np.concatenate(signed)
    signed.clear()
    quality = np.array([len(question) + len(answer) for question, answer in rows], np.float32)
    found = find_duplicates(
        keys, all_signed, quality, Likeness(lambda row: parts_of(conversation(row)), 0.6)
    )
    print(f"all {time.process_time() - started:.1f} s", file=sys.stderr)
    return [int(row) for row in found.kept_instead]


def datasketch(rows: list[Row]) -> list[int]:
    """The same with datasketch: 128 permutations, its own bands for 0.6, nothing verified."""
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(threshold=0.6, num_perm=128), []
    for row, (question, answer) in enumerate(rows):
        text = re.sub(r"[\W_]+", "", f"{question}{answer}".lower())
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[i : i + 4].encode() for i in range(max(1, len(text) - 3))])
        near = index.query(sketch)
        kept.append(min(near) if near else -1)
        if not near:
            index.insert(row, sketch)
    return kept


METHODS: dict[str, Callable[[list[Row]], list[int]]] = {"ours": ours, "datasketch": datasketch}


def measure(method: str, task: Task) -> str:
    """A line of the table."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    kept_instead = METHODS[method](task.rows)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = sum(
        kept_instead[copy] >= 0 or kept_instead[original] >= 0
        for copy, original in enumerate(task.originals, task.num_rows)
    )
    false = sum(
        kept >= 0 and task.family(kept) != task.family(row)
        for row, kept in enumerate(kept_instead[: task.num_rows])
    )
    return (
        f"{method:12} {len(task.rows):>9,} {found / len(task.originals):>8.4f} "
        f"{false / task.num_rows:>8.4f} {seconds:>8.1f} {grown:>8.0f}"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--copies", type=int, default=5_000)
    parser.add_argument("--edits", choices=EDITS, default="heavy")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--peers", choices=["datasketch", "none"], default="datasketch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", choices=METHODS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.measure:
        print(f"{'':12} {'rows':>9} {'recall':>8} {'false':>8} {'CPU s':>8} {'MiB':>8}", flush=True)
        for method in ["ours"] if chosen.peers == "none" else list(METHODS):
            subprocess.run([sys.executable, *sys.argv, "--measure", method], check=True)
        return
    draw = random.Random(chosen.seed)
    rows = rows_of(chosen.file) if chosen.file else made_up_rows(chosen.rows, draw)
    draw.shuffle(rows)
    task = planted(rows[: chosen.rows], chosen.copies, EDITS[chosen.edits], draw)
    print(measure(chosen.measure, task))


if __name__ == "__main__":
    main()
