#!/usr/bin/env python3
"""Benchmark questions planted in the rows of a file: how many are found, false alarms, rows/s.

    python benchmarks/contamination.py ROWS --folder BENCHMARKS [--plants 2000] [--seed 0]

Each plant is a question, or a contiguous part of its words, in the middle of a row that held none.
A part is taken at the question's start, middle or end. Parts of boilerplate alone ("which of the
following statements about"), which many questions share, are counted apart.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import random
import time
from collections import Counter
from collections.abc import Iterator

from burnish.contamination.index import (
    MAX_ITEMS,
    MIN_WORDS,
    Index,
    Item,
    build_index,
    passage,
    words,
)
from burnish.contamination.items import BENCHMARKS, load_items
from burnish.contamination.overlaps import find_overlaps, without_terms
from burnish.conversation import BadRow, Record
from burnish.reading.files import read_records
from burnish.recipe import ContaminationSettings, Source

SHARES = (1.0, 0.5, 0.3)
LENGTHS = ((8, 16), (16, 26), (26, 10**9))


def main() -> None:
    """Prints what is found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", help="a file of examples without benchmark questions")
    parser.add_argument("--folder", required=True, help="benchmarks laid out as on the hub")
    parser.add_argument("--plants", type=int, default=2000, help="questions planted at each share")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    items, index = _index(arguments.folder)
    clean = _look_up(arguments.rows, index)
    _print_recall(items, index, clean, random.Random(arguments.seed), arguments.plants)


def _index(folder: str) -> tuple[list[Item], Index]:
    settings = ContaminationSettings(against=list(BENCHMARKS), benchmarks_folder=folder)
    started = time.perf_counter()
    items = load_items(settings, _read)
    loaded = time.perf_counter()
    index = build_index(items, settings.ngram)
    built = time.perf_counter()
    size = len(pickle.dumps(index)) / 2**20
    print(f"{len(items):,} questions: read in {loaded - started:.1f} s, indexed in", end=" ")
    print(f"{built - loaded:.1f} s, {size:.0f} MiB; {len(index.unchecked):,} can't be checked:")
    print("  " + ", ".join(f"{n} {c}" for n, c in _by_benchmark(index).most_common()))
    return items, index


def _read(path: str) -> Iterator[Record | BadRow]:
    return read_records(Source(path=path), max_unpacked_gib=1)


def _by_benchmark(index: Index) -> Counter[str]:
    return Counter(name.partition("/")[0] for name in index.unchecked)


def _texts(path: str) -> Iterator[str]:
    for row in _read(path):
        fields = getattr(row, "fields", {})
        values = fields.values()
        yield "\n".join(
            v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values
        )


def _look_up(path: str, index: Index) -> list[str]:
    """The rows that hold nothing of a benchmark, after a line about all of them."""
    texts = list(_texts(path))
    started = time.perf_counter()
    found = find_overlaps(texts, index)
    seconds = time.perf_counter() - started
    settled = without_terms(found)
    length = sum(map(len, texts)) / max(len(texts), 1)
    print(f"{len(texts):,} rows of {length:.0f} characters: {len(texts) / seconds:,.0f} rows/s")
    kinds = Counter(overlap.kind for overlap in settled if overlap is not None)
    print(f"found in them as they are: {dict(kinds) or 'nothing'}")
    return [text for text, overlap in zip(texts, found, strict=True) if overlap is None]


def _print_recall(
    items: list[Item], index: Index, rows: list[str], chance: random.Random, num_plants: int
) -> None:
    unchecked, common = set(index.unchecked), _boilerplate(items)
    checked = [i for i in items if i.name not in unchecked and len(words(i.question)) >= MIN_WORDS]
    print("\nshare  place    words   planted  boilerplate   found   recall    sure")
    for share in SHARES:
        for place in ("start", "middle", "end") if share < 1 else ("whole",):
            plants = chance.sample(checked, min(num_plants, len(checked)))
            for low, high in LENGTHS:
                some = [i for i in plants if low <= len(words(i.question)) < high]
                parts = [_part(i.question, share, place) for i in some]
                telling = [p for p in parts if not (grams := set(_grams(p))) or grams - common]
                found = find_overlaps([_planted(p, chance.choice(rows)) for p in telling], index)
                hits = [overlap for overlap in found if overlap is not None]
                sure = sum(overlap.is_sure for overlap in hits)
                span = f"{low}-{high - 1}" if high < 10**9 else f"{low}+"
                print(f"{share:5.0%}  {place:7}{span:>7}{len(some):10,}", end="")
                print(f"{len(some) - len(telling):13,}{len(hits):8,}", end="")
                count = max(len(telling), 1)
                print(f"{len(hits) / count:9.1%}{sure / count:8.1%}")


def _boilerplate(items: list[Item]) -> set[str]:
    """Eight words in a row that more than ten questions share."""
    counts = Counter(gram for item in items for gram in set(_grams(item.question)))
    return {gram for gram, count in counts.items() if count > MAX_ITEMS}


def _grams(text: str) -> list[str]:
    split = words(text)
    return [" ".join(split[i : i + MIN_WORDS]) for i in range(len(split) - MIN_WORDS + 1)]


def _part(question: str, share: float, place: str) -> str:
    total = len(words(question))
    count = math.ceil(total * share)
    first = {"whole": 0, "start": 0, "middle": (total - count) // 2, "end": total - count}[place]
    return passage(question, first, count)


def _planted(part: str, row: str) -> str:
    middle = len(row) // 2
    return f"{row[:middle]}\n{part}\n{row[middle:]}"


if __name__ == "__main__":
    main()
