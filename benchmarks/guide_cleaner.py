#!/usr/bin/env python3
"""What the guide's cleaner destroys, and what ours does, on the same rows.

    python benchmarks/guide_cleaner.py data.csv more.jsonl

The guide collapses every run of white space into a blank, removes `<.*?>`, and strips. Counted are
rows, with all their texts taken together:

  line breaks   rows with fewer lines that hold something than before
  in answers    those of them in which the last text does, the answer
  < and >       rows that lose text between < and > that is no HTML tag: comparisons, generics, code
  tags shown    rows about HTML or code that lose the tags they are about
  characters    all characters that are gone, blanks not counted
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from burnish.cleaning.markup import is_about_markup
from burnish.cleaning.text import repair
from burnish.conversation import Record
from burnish.reading.files import read_records
from burnish.recipe import CleanSection, Source

LOSSES = ("line breaks", "in answers", "< and >", "tags shown")
BETWEEN = re.compile(r"<.*?>")
TAG = re.compile(
    r"<!--.*-->|</?(?:a|b|big|blockquote|body|br|button|center|code|div|em|font|form|h[1-6]|head|hr"
    r"|html|i|iframe|img|input|label|li|link|meta|ol|p|pre|script|small|span|strong|style|sub|sup"
    r"|table|tbody|td|textarea|th|thead|title|tr|u|ul)(?:\s[^<>]*=[^<>]*)?\s*/?>",
    re.IGNORECASE,
)

Cleaner = Callable[[list[str]], list[str]]


def by_guide(texts: list[str]) -> list[str]:
    """A row's texts as the guide cleans them."""
    return [BETWEEN.sub("", collapsed(text)).strip() for text in texts]


def by_burnish(texts: list[str]) -> list[str]:
    """A row's texts under the default recipe."""
    about_markup = any(is_about_markup(text) for text in texts[:-1])
    return [repair(text, CleanSection(), about_markup=about_markup)[0] for text in texts]


def collapsed(text: str) -> str:
    """The text with every run of white space as one blank."""
    return re.sub(r"\s+", " ", text)


def lost(before: list[str], after: list[str]) -> dict[str, str]:
    """An example of each kind of loss that a row suffered, by kind."""
    losses = {}
    for old, new in zip(before, after, strict=True):
        if num_lines(new) < num_lines(old):
            losses["line breaks"] = old
            if old is before[-1]:
                losses["in answers"] = old
        kept = collapsed(new)
        for span in BETWEEN.findall(collapsed(old)):
            if not TAG.fullmatch(span):
                if span not in kept:
                    losses.setdefault("< and >", span)
            elif span not in kept and any(is_about_markup(text) for text in before[:-1]):
                losses.setdefault("tags shown", span)
    return losses


def num_lines(text: str) -> int:
    """How many lines of a text hold something."""
    return sum(bool(line.strip()) for line in text.split("\n"))


def num_characters(texts: list[str]) -> int:
    """How many characters the texts have, blanks not counted."""
    return sum(len("".join(text.split())) for text in texts)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a record, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)


def measure(path: str, cleaner: Cleaner) -> tuple[int, int, Counter[str], dict[str, str]]:
    """Rows read, characters gone, rows with each loss, and the first example of each."""
    num_rows = num_gone = 0
    rows_with: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for record in read_records(Source(path=path), max_unpacked_gib=16.0):
        if not isinstance(record, Record):
            continue
        before = list(texts_of(record.fields)) or [""]
        after = cleaner(before)
        losses = lost(before, after)
        num_rows += 1
        num_gone += max(0, num_characters(before) - num_characters(after))
        rows_with.update(losses.keys())
        examples = {
            **{kind: f"{record.origin}: {text!r}" for kind, text in losses.items()},
            **examples,
        }
    return num_rows, num_gone, rows_with, examples


def main() -> None:
    """Prints a table, and an example of each loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    shown: dict[str, str] = {}
    print(
        f"{'file':32} {'rows':>6}  {'cleaner':8}", *(f"{kind:>12}" for kind in LOSSES), "characters"
    )
    for path in parser.parse_args().files:
        for name, cleaner in (("guide", by_guide), ("burnish", by_burnish)):
            num_rows, num_gone, rows_with, examples = measure(path, cleaner)
            counts = [f"{rows_with[kind]:12,}" for kind in LOSSES]
            file = path.rpartition("/")[2][-32:]
            print(f"{file:32} {num_rows:6,}  {name:8}", *counts, f"{num_gone:10,}")
            for kind, example in examples.items():
                shown.setdefault(f"{name} loses {kind}", example)
    print()
    for what, example in shown.items():
        print(f"{what}, {example[:160]}")


if __name__ == "__main__":
    main()
