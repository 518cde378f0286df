#!/usr/bin/env python3
"""Precision and recall of the search for personal data on made-up rows, and rows a second.

    python benchmarks/privacy.py
    python benchmarks/privacy.py --rows 3000 --seed 7
    python benchmarks/privacy.py --misses       # print the rows that went wrong

Of the rows of a kind two thirds hold a datum of it, in Chinese or English, and a third only looks
like it. A finding counts if its kind and its text are the expected ones. The last lines time rows
of 200 characters: the made-up ones, and talk in which nothing is to be found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cleaning.made_up_secrets import CHINESE_TALK, ENGLISH_TALK, KINDS, Row, made_up_rows

from burnish.cleaning.privacy import find


def main() -> None:
    """Print a line per kind, and the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500, help="rows per kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misses", action="store_true", help="print the rows that went wrong")
    options = parser.parse_args()
    rows = [row for kind in KINDS for row in made_up_rows(kind, options.rows, options.seed)]
    wrong = print_scores(rows)
    if options.misses:
        for row in wrong:
            print(f"  {row.text!r}\n    expected {row.expected}")
    print_speed("made-up rows", filled([row.text for row in rows]))
    print_speed("Chinese talk", filled(CHINESE_TALK * 2000))
    print_speed("English talk", filled(ENGLISH_TALK * 2000))


def print_scores(rows: Sequence[Row]) -> list[Row]:
    """The rows in which not exactly the expected data were found; prints a line per kind."""
    right, found, expected = Counter[str](), Counter[str](), Counter[str]()
    wrong = []
    for row in rows:
        got = {(finding.kind, finding.text) for finding in find(row.text, KINDS)}
        found.update(kind for kind, _ in got)
        expected.update(kind for kind, _ in row.expected)
        right.update(kind for kind, _ in got & set(row.expected))
        if got != set(row.expected):
            wrong.append(row)
    print(f"{'kind':12} {'data':>6} {'precision':>10} {'recall':>8}")
    for kind in KINDS:
        precision = right[kind] / max(1, found[kind])
        recall = right[kind] / max(1, expected[kind])
        print(f"{kind:12} {expected[kind]:6} {precision:10.4f} {recall:8.4f}")
    return wrong


def filled(texts: Sequence[str], length: int = 200) -> list[str]:
    """The texts, one after another, as rows of so many characters."""
    whole = "\n".join(texts)
    return [whole[start : start + length] for start in range(0, len(whole), length)]


def print_speed(name: str, rows: Sequence[str]) -> None:
    """Print how many rows a second are searched on one core."""
    started = time.process_time()
    num_found = sum(len(find(row, KINDS)) for row in rows)
    seconds = time.process_time() - started
    rate, each = len(rows) / seconds, seconds / len(rows) * 1e6
    print(f"{name}: {rate:,.0f} rows/s, {each:.1f} microseconds a row, {num_found} data found")


if __name__ == "__main__":
    main()
