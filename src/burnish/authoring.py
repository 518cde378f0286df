"""The new verb: looks at a data file, guesses layout and columns, writes a commented recipe."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from burnish.cleaning.detection import common_layout, listed
from burnish.conversation import Record
from burnish.errors import DataError, RecipeError
from burnish.models.embedded import NAME as EMBEDDED
from burnish.progress import say
from burnish.reading.files import read_records
from burnish.recipe import DataSection, Source
from burnish.recipe_file import load_recipe
from burnish.run_dir import write_text

NUM_ROWS_READ = 200

_NAMES: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "question", "ask", "query", "prompt", "问题", "提问", "指令"),
    "input": ("input", "context", "背景", "输入"),
    "output": ("output", "answer", "response", "completion", "reply", "回答", "答案", "输出"),
}
"""Names by which a column is recognised, the likeliest first."""


class NewReport(BaseModel):
    """The recipe that was written, and what was guessed about the data."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    layout: str
    columns: dict[str, str]
    language: str


def new(data: Path, out: Path | None = None) -> NewReport:
    """Writes a recipe for a data file; an existing file is not overwritten.

    Args:
        data: the data file, or a folder written by save_to_disk.
        out: the recipe to write; by default <name of the data>.yaml in the working directory.

    Raises:
        DataError: the file can't be read, or no column looks like a question or an answer.
        RecipeError: there is a file of that name already.
    """
    records = first_records(str(data))
    layout = common_layout(records)
    columns = {} if layout else guess_columns(records)
    out = out or Path(f"{data.stem}.yaml")
    if out.exists():
        raise RecipeError(
            str(out), "there is a file of this name already.", "Choose another: --out NAME.yaml"
        )
    language = "Chinese" if _is_mostly_chinese(records) else "English"
    write_text(out, _recipe_text(data, out.stem, layout, columns, language))
    load_recipe(out)
    return NewReport(
        recipe=str(out), layout=layout or "columns", columns=columns, language=language
    )


def first_records(data: str, tell: Callable[[str], None] = say) -> list[Record]:
    """The first readable rows of a file, of which there is at least one.

    Args:
        data: the file.
        tell: takes the remarks of reading.

    Raises:
        DataError: the file can't be read, or none of its rows.
    """
    section = DataSection(sources=[Source(path=data)])
    source, limit = section.sources[0], section.max_unpacked_gib
    rows = read_records(source, max_unpacked_gib=limit, tell=tell)
    records = [row for row in itertools.islice(rows, NUM_ROWS_READ) if isinstance(row, Record)]
    if not records:
        raise DataError(data, "there is no readable row in this file.", "Look at the file.")
    return records


def guess_columns(records: Sequence[Record]) -> dict[str, str]:
    """Which column holds the question, the context and the answer: by name, else by length.

    Raises:
        DataError: there are fewer than two columns of text.
    """
    texts = _text_columns(records)
    found: dict[str, str] = {}
    for part, known in _NAMES.items():
        named = [c for name in known for c in texts if c.strip().lower() == name]
        if named:
            found[part] = named[0]
    by_length = sorted((c for c in texts if c not in found.values()), key=lambda c: -texts[c])
    for part in ("output", "instruction"):
        if part not in found:
            if not by_length:
                raise DataError(
                    records[0].origin,
                    f"no column looks like {'an answer' if part == 'output' else 'a question'}; "
                    f"the columns are {listed([*records[0].fields])}.",
                    "A row needs a column with a question and one with its answer.",
                )
            found[part] = by_length.pop(0)
    return {part: found[part] for part in ("instruction", "input", "output") if part in found}


def _text_columns(records: Sequence[Record]) -> dict[str, float]:
    """Mean length in characters of each column that holds text."""
    lengths: dict[str, float] = {}
    for name in dict.fromkeys(name for r in records for name in r.fields):
        texts = [r.fields.get(name) for r in records]
        filled = [text for text in texts if isinstance(text, str) and text.strip()]
        if filled and not all(_is_number(text) for text in filled):
            lengths[name] = sum(map(len, filled)) / len(records)
    return lengths


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_mostly_chinese(records: Sequence[Record]) -> bool:
    text = "".join(
        json.dumps(list(r.fields.values()), ensure_ascii=False, default=str) for r in records
    )
    letters = [c for c in text if c.isalpha()]
    return sum("\u4e00" <= c <= "\u9fff" for c in letters) > len(letters) / 3


def _recipe_text(
    data: Path, name: str, layout: str | None, columns: dict[str, str], language: str
) -> str:
    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    how = f"      layout: {layout}\n"
    if columns:
        pairs = ", ".join(f"{part}: {quoted(column)}" for part, column in columns.items())
        how = f"      columns: {{{pairs}}}  # guessed; correct it if it is wrong\n"
    template = "plain_zh" if language == "Chinese" else "plain_en"
    return f"""\
# A recipe for {data.name}, written by `burnish new`. Every setting: docs/recipe.md
# Run all of it:       burnish run {name}.yaml
# Look at a row first: burnish clean {name}.yaml && burnish preview {name}.yaml

run_dir: {quoted(f"runs/{name}")}

model:
  name_or_path: {EMBEDDED}  # or Qwen/Qwen2.5-7B-Instruct, modelscope:owner/name, a folder
  # load_in_4bit: true     # for a large model on a small GPU
  # chat_template: {template}  # only for a base model that brings no template

data:
  sources:
    - path: {quoted(str(data))}
{how}      # limit: 500           # read only the first rows, to try things out

clean: {{}}                  # the defaults are safe; see the rules with: burnish clean {name}.yaml

prepare:
  max_length: 1024         # in tokens; longer answers are cut and counted
  validation_size: 0.1
  test_size: 0.1

train:
  num_train_epochs: 3
  learning_rate: 2e-4
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  lora: {{r: 16, lora_alpha: 32}}

evaluate:
  num_answers: 8           # answers of base and adapter side by side, in answers.csv
  # tasks: [mmlu, truthfulqa_mc1]

quantize: {{bits: 4, group_size: 128}}

serve: {{port: 8000, temperature: 0.7}}
"""
