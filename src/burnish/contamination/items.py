"""The questions of benchmarks: from a folder laid out as on the hub, from the hub, from any file.

Add a benchmark: a line in BENCHMARKS and its name in the help of ContaminationSettings.against.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.contamination.index import Item
from burnish.conversation import BadRow, Record
from burnish.errors import DataError, RecipeError
from burnish.progress import say
from burnish.recipe import ContaminationSettings

Reader = Callable[[str], Iterable[Record | BadRow]]
"""Reads the rows of a file. Cleaning hands its own down, so that items may come in every format
that examples may come in."""

PARQUET = "refs/convert/parquet"
"""The branch on which the hub keeps each data set as parquet, scripts and archives unpacked."""

_ITEM_COLUMNS = ("question", "problem", "query", "instruction", "prompt", "text", "input")
_TEXT_FILES = (".txt", ".md")
_SPLITS = ("test", "validation", "val")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Where the questions of a benchmark are: a data set, and which of its parts."""

    repository: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


BENCHMARKS = {
    "mmlu": Benchmark("cais/mmlu", without=("all", "auxiliary_train")),
    "truthfulqa": Benchmark("truthfulqa/truthful_qa", only=("generation",)),
    "ceval": Benchmark("ceval/ceval-exam"),
    "cmmlu": Benchmark("haonan-li/cmmlu"),
    "gsm8k": Benchmark("openai/gsm8k", only=("main",)),
}


def load_items(settings: ContaminationSettings, read: Reader) -> list[Item]:
    """The test and validation questions of all that the recipe compares with.

    Raises:
        RecipeError: a name is no benchmark that is known and no file.
        DataError: a benchmark is not in the folder, can't be fetched, or a row can't be read.
    """
    items: list[Item] = []
    for name in settings.against:
        if name in BENCHMARKS:
            items += _benchmark_items(name, settings.benchmarks_folder, read)
        elif Path(name).suffix or Path(os.path.expanduser(name)).exists():
            items += _file_items(name, read)
        else:
            raise _unknown(name)
    return items


def _unknown(name: str) -> RecipeError:
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return RecipeError(
        "clean.contamination.against",
        f"there is no benchmark {name!r}; those known are {', '.join(BENCHMARKS)}.",
        f"{hint}A file of items needs an ending, such as items.jsonl.",
    )


def _benchmark_items(name: str, folder: str | None, read: Reader) -> Iterator[Item]:
    benchmark = BENCHMARKS[name]
    root = Path(os.path.expanduser(folder)) / benchmark.repository if folder else _fetch(benchmark)
    files = list(_files(root, benchmark))
    if not files:
        raise DataError(
            str(root),
            f"there are no test questions of {name} here (looked for "
            f"{root.absolute()}/<subject>/test.*).",
            "Name the folder that holds cais/mmlu and the like under "
            "clean.contamination.benchmarks_folder, or remove it to fetch from the hub.",
        )
    for part, split, path in files:
        for record in _records(str(path), read):
            line = record.origin.rpartition(f"{path.name}:")[2]
            yield item_of(record.fields, name, f"{name}/{part}/{split}:{line}")


def _files(root: Path, benchmark: Benchmark) -> Iterator[tuple[str, str, Path]]:
    """Part, split and path of each file of questions.

    The hub has three layouts: test.jsonl, test-00000-of-00001.parquet and test/0000.parquet.
    """
    parts = (path for path in root.glob("*") if path.is_dir())
    for part in sorted(parts, key=lambda path: path.name):
        if part.name in benchmark.without or (benchmark.only and part.name not in benchmark.only):
            continue
        for split in _SPLITS:
            for pattern in (f"{split}.*", f"{split}-*.*", f"{split}/*.*"):
                for path in sorted(part.glob(pattern)):
                    yield part.name, split, path


def _fetch(benchmark: Benchmark) -> Path:
    """A folder of the hub's cache with the test questions, fetched where they aren't there."""
    from huggingface_hub import snapshot_download

    say(f"fetching the questions of {benchmark.repository} from the Hugging Face hub")
    parts = benchmark.only or ("*",)
    try:
        folder = snapshot_download(
            benchmark.repository,
            repo_type="dataset",
            revision=PARQUET,
            allow_patterns=[f"{part}/{split}/*.parquet" for part in parts for split in _SPLITS],
            ignore_patterns=[f"{part}/*" for part in benchmark.without],
        )
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0]
        raise DataError(
            benchmark.repository,
            f"it can't be fetched from the Hugging Face hub ({reason}).",
            "Check the network; in China set HF_ENDPOINT to a mirror, or name a folder that holds "
            "the benchmarks under clean.contamination.benchmarks_folder.",
        ) from None
    return Path(folder)


def _file_items(name: str, read: Reader) -> Iterator[Item]:
    for record in _records(name, read):
        if Path(name).suffix.lower() in _TEXT_FILES:
            lines = str(record.fields.get("text", "")).splitlines()
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield Item(Path(name).name, f"{record.origin}+{number}", line)
        else:
            yield item_of(record.fields, Path(name).name, record.origin)


def _records(path: str, read: Reader) -> Iterator[Record]:
    for row in read(path):
        if isinstance(row, BadRow):
            raise DataError(row.origin, row.reason, "Mend this row of the benchmark.")
        yield row


def item_of(fields: Mapping[str, Any], benchmark: str, name: str) -> Item:
    """The item in a row: its question by the usual column names, and its choices.

    A row without any of those columns counts with all its texts.
    """
    columns = {str(key).lower(): value for key, value in fields.items()}
    question = next((t for c in _ITEM_COLUMNS if (t := _text(columns.get(c)).strip())), "")
    if question and columns.get("instruction") and columns.get("input"):
        question = f"{_text(columns['instruction'])}\n{_text(columns['input'])}"
    question = question or _turns(columns) or "\n".join(filter(None, map(_text, fields.values())))
    return Item(benchmark, name, question, _choices(columns))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _turns(columns: Mapping[str, Any]) -> str:
    """What the user says in a row that holds a conversation."""
    turns = columns.get("messages") or columns.get("conversations")
    said = [
        _text(turn.get("content", turn.get("value")))
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, Mapping) and turn.get("role", turn.get("from")) in ("user", "human")
    ]
    return "\n".join(said)


def _choices(columns: Mapping[str, Any]) -> str:
    choices = columns.get("choices") or columns.get("options")
    if isinstance(choices, Mapping):
        choices = choices.get("text") or list(choices.values())
    if not isinstance(choices, list):
        choices = [columns[letter] for letter in "abcde" if columns.get(letter) is not None]
    return "\n".join(map(str, choices))
