"""The audit verb: looks at data, and says what cleaning would do, without changing anything.

It cleans into a folder of its own that is gone afterwards, and reads what came of every row.
"""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.auditing.measures import LANGUAGES
from burnish.auditing.page import render_page
from burnish.auditing.repeats import Repeats, find_repeats, origins_of
from burnish.auditing.report import AuditReport, Copy, Examples, Lengths
from burnish.auditing.tally import Kinds, Settings, Shown, Tally, add_benchmark_items, add_row
from burnish.auditing.targets import look_at, recipe_of
from burnish.auditing.tokens import TokenCounter
from burnish.cleaning.clean import STEPS, clean_into, names_of, rows_left
from burnish.cleaning.faults import FAULTS
from burnish.cleaning.ledger import Counts
from burnish.cleaning.parts import Parts
from burnish.cleaning.row import RowResult
from burnish.cleaning.text import REPAIRS
from burnish.errors import DataError, RunError
from burnish.lengths import Bar, covering_length, histogram, percentiles
from burnish.progress import track
from burnish.recipe import CleanSection, Recipe
from burnish.run_dir import write_text

_RULES = [step for step in STEPS if step not in ("contaminated", "duplicate", "near_duplicate")]

LengthsByPart = dict[str, NDArray[np.int64]]


def audit(
    target: str,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    page: Path | None = None,
) -> AuditReport:
    """What is in a data set, and what cleaning would do to it; nothing is changed.

    Args:
        target: a data file, folder, pattern or hub name; a recipe or a run folder.
        overrides: `section.key=value`, as for every verb.
        model: whose tokens to count; by default the recipe's model.
        page: an HTML page to write.

    Raises:
        DataError: a source can't be read, or there is no row in it.
        RecipeError: a fault of the recipe.
        RunError: the page can't be written there.
    """
    with tempfile.TemporaryDirectory(prefix="burnish-audit-") as scratch:
        recipe = recipe_of(target, overrides, Path(scratch))
        if model is not None:
            chosen = {"name_or_path": model, "revision": None}
            recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=chosen)})
        if page is not None:
            _check_page(page, [target, *(source.path for source in recipe.data.sources)])
        seen = _look_over(target, recipe, Path(scratch))
    report = _report(target, recipe, seen)
    if page is None:
        return report
    report = report.model_copy(update={"page": str(page)})
    try:
        write_text(page, render_page(report, seen.histograms))
    except OSError as error:
        raise _no_page(page, f"the page can't be written ({error.strerror}).") from None
    return report


def _check_page(page: Path, looked_at: Sequence[str]) -> None:
    if page.is_dir():
        raise _no_page(page, "this is a folder.")
    if any(page.absolute() == Path(os.path.expanduser(path)).absolute() for path in looked_at):
        raise _no_page(page, "the page would take the place of what is looked at.")


def _no_page(page: Path, problem: str) -> RunError:
    return RunError(str(page), problem, "Choose another file: --html NAME.html")


@dataclass(frozen=True, slots=True)
class _Seen:
    """All that was seen of the rows."""

    counts: Counts
    repeats: dict[str, Repeats]
    settings: Settings
    tally: Tally
    tokens: TokenCounter

    @property
    def characters(self) -> LengthsByPart:
        """Lengths of the rows that are kept."""
        return _by_part(self.tally.questions, self.tally.answers)

    @property
    def in_tokens(self) -> LengthsByPart:
        """Lengths of those of them that were rendered."""
        return _by_part(self.tokens.questions, self.tokens.answers)

    @property
    def histograms(self) -> dict[str, list[Bar]]:
        """The lengths as charts, by their title."""
        charts = {"characters": self.characters, "tokens": self.in_tokens}
        return {
            f"{part}, {unit}": histogram(lengths)
            for unit, values in charts.items()
            for part, lengths in values.items()
        }


def _look_over(target: str, recipe: Recipe, folder: Path) -> _Seen:
    section = _to_look_with(recipe.clean)
    parts = Parts(folder / "parts")
    counts = clean_into(folder, parts, recipe.data, section)
    if not counts.num_read:
        raise DataError(target, "there is no row in this file.", "Check that it is the right one.")
    repeats = find_repeats(folder / "ledger.jsonl")
    settings = Settings.of(section, names_of(recipe.data.sources), origins_of(repeats))
    tally, tokens = Tally(), TokenCounter(recipe.model, recipe.prepare, counts.num_kept)
    for result, kept in _rows(parts, folder, counts.num_read):
        conversation = add_row(tally, result, settings, kept=kept)
        if conversation is not None and kept:
            tokens.add(conversation)
    add_benchmark_items(tally, folder / "contamination.jsonl")
    return _Seen(counts, repeats, settings, tally, tokens)


def _to_look_with(section: CleanSection) -> CleanSection:
    """The settings with which rows are looked at: as they are, but nothing is masked or stops."""
    changed: dict[str, Any] = {"bad_rows": "reject", "record_changes": "all"}
    if section.privacy.action == "mask":
        changed["privacy"] = section.privacy.model_copy(update={"action": "detect"})
    return section.model_copy(update=changed)


def _rows(parts: Parts, folder: Path, total: int) -> Iterator[tuple[RowResult, bool]]:
    """What came of every row, and whether it was kept."""
    with (folder / "ledger.jsonl").open(encoding="utf-8") as ledger:
        fates = (bool(json.loads(line)["kept"]) for line in ledger)
        rows = zip(parts.results(), fates, strict=True)
        yield from track(rows, "audit", total=total, unit="rows")


def _by_part(questions: array[int], answers: array[int]) -> LengthsByPart:
    """Lengths of questions, answers and both together; nothing where there are no rows."""
    if not answers:
        return {}
    asked = np.array(questions, dtype=np.int64)
    answered = np.array(answers, dtype=np.int64)
    return {"question": asked, "answer": answered, "conversation": asked + answered}


def _report(target: str, recipe: Recipe, seen: _Seen) -> AuditReport:
    data, tally, dropped = recipe.data, seen.tally, seen.counts.rejected
    counted = _counted(seen)
    names = names_of(data.sources)
    return AuditReport(
        target=target,
        page=None,
        num_read=seen.counts.num_read,
        num_kept=seen.counts.num_kept,
        sources={
            name: look_at(source, data, tally.per_source[name])
            for name, source in zip(names, data.sources, strict=True)
        },
        rows_left=rows_left(seen.counts),
        num_dropped={step: dropped[step] for step in STEPS if dropped[step]},
        lengths=_lengths(seen, recipe.prepare.max_length),
        languages={name: tally.languages[name] for name in LANGUAGES if tally.languages[name]},
        faults=counted["faults"],
        broken_rules=counted["rules"],
        repairs=counted["repairs"],
        switched_off=counted["switched_off"] | _duplicates_left(seen),
        duplicates={name: found.count for name, found in seen.repeats.items()},
        personal_data=counted["personal_data"],
        benchmark_items=counted["benchmark_items"],
        examples=Examples(
            duplicates={n: _copies(r, tally) for n, r in seen.repeats.items() if r.pairs},
            **{name: _first(getattr(tally, name), counts) for name, counts in counted.items()},
        ),
    )


def _counted(seen: _Seen) -> dict[str, dict[str, int]]:
    """Rows of each kind that the tally tells apart."""
    tally, settings = seen.tally, seen.settings
    repairs = [name for name in REPAIRS if name not in settings.off_repairs]
    return {
        "faults": _counts(tally.faults, FAULTS),
        "rules": _counts(tally.rules, _RULES),
        "repairs": _counts(tally.repairs, repairs),
        "switched_off": _counts(tally.switched_off, [*settings.off_repairs, *settings.off_rules]),
        "personal_data": _counts(tally.personal_data, ()),
        "benchmark_items": _counts(tally.benchmark_items, ()),
    }


def _duplicates_left(seen: _Seen) -> dict[str, int]:
    """What the settings would drop that keep duplicates out, where they are off."""
    settings = {"drop_duplicates": "exact", "drop_near_duplicates": "near"}
    return {
        name: seen.repeats[kind].count
        for name, kind in settings.items()
        if not getattr(seen.settings.section, name)
    }


def _counts(kinds: Kinds[Any], known: Iterable[str]) -> dict[str, int]:
    """Rows of each kind: the known ones in their order, also where there are none, and others."""
    names = dict.fromkeys([*known, *kinds.counts])
    return {name: kinds.counts[name] for name in names}


def _first(kinds: Kinds[Shown], counts: Mapping[str, int]) -> dict[str, dict[str, Shown]]:
    return {name: kinds.first[name] for name in counts if kinds.first[name]}


def _copies(found: Repeats, tally: Tally) -> dict[str, Copy]:
    return {
        pair.origin: Copy(
            repeats=pair.repeats,
            similarity=pair.similarity,
            text=tally.texts[pair.origin],
            repeated_text=tally.texts[pair.repeats],
        )
        for pair in found.pairs
    }


def _lengths(seen: _Seen, max_length: int) -> Lengths:
    return Lengths(
        characters={part: percentiles(lengths) for part, lengths in seen.characters.items()},
        tokens={part: percentiles(lengths) for part, lengths in seen.in_tokens.items()},
        tokens_of=seen.tokens.described,
        advice=_advice(seen.in_tokens.get("conversation"), max_length),
    )


def _advice(lengths: NDArray[np.int64] | None, max_length: int) -> str:
    """What prepare.max_length should be; empty where no tokens were counted."""
    if lengths is None:
        return ""
    share = float((lengths <= max_length).mean())
    covered = "all" if share == 1 else f"{share:.2%}"
    return (
        f"prepare.max_length: {covering_length(lengths)} covers 99 % of the rows; "
        f"{max_length}, as set, covers {covered}."
    )
