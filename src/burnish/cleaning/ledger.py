"""The ledger: what became of every row, written down in files that a person can read.

conversations.jsonl  the rows that were kept
rejected.jsonl       the others: rule, file:line, reason and text
changes.jsonl        every rewritten field before and after
ledger.jsonl         a line for every row: kept or the rule, all faults, the row it repeats
privacy.jsonl        personal data that was found, mostly hidden
contamination.jsonl  rows that hold words of benchmark items
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from burnish.cleaning.parts import Parts
from burnish.cleaning.row import RowResult, Table
from burnish.cleaning.rules import show
from burnish.cleaning.verdicts import GroupNames, Verdicts, is_dropped
from burnish.contamination.overlaps import Overlap
from burnish.conversation import Conversation
from burnish.recipe import CleanSection
from burnish.run_dir import whole_file

NUM_SAMPLES = 100
"""So many changes of each repair are written when only a sample is asked for."""

NAMES = ("conversations", "rejected", "changes", "ledger", "privacy", "contamination")


@dataclass(slots=True)
class Counts:
    """How many rows met which fate."""

    num_read: int = 0
    num_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)
    benchmarks: Counter[str] = field(default_factory=Counter)
    first_rejected: list[dict[str, Any]] = field(default_factory=list)


def write_ledger(
    folder: Path, parts: Parts, table: Table, verdicts: Verdicts, section: CleanSection
) -> Counts:
    """Writes the files of the ledger, each of which appears whole; returns the counts."""
    counts = Counts()
    names = GroupNames(table.keys)
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(whole_file(folder / f"{name}.jsonl")) for name in NAMES}
        for row, result in enumerate(parts.results()):
            leak = verdicts.leaks.get(row)
            groups = names.of(row, verdicts.groups[row], result.conversation)
            rejection = _rejection(row, result, verdicts, parts, section)
            faults = _faults(row, result, verdicts)
            _count(counts, result, rejection, faults, leak)
            _write(files["changes"], _chosen_changes(result, section, counts))
            _write(files["privacy"], result.findings)
            if leak:
                _write(files["contamination"], [{"origin": result.origin, **asdict(leak)}])
            line = {"origin": result.origin, "kept": not rejection}
            line |= {"rule": rejection["rule"]} if rejection else {}
            line |= {"faults": faults, **_twin(row, verdicts, parts)}
            _write(files["ledger"], [line])
            if rejection:
                _write(files["rejected"], [rejection])
            else:
                # Spliced in: reading and writing the conversation anew would take longer.
                written = json.dumps(groups, ensure_ascii=False)
                text = f'{result.conversation[:-1]}, "groups": {written}}}\n'
                files["conversations"].write(text)
    return counts


def _rejection(
    row: int, result: RowResult, verdicts: Verdicts, parts: Parts, section: CleanSection
) -> dict[str, Any] | None:
    if result.broken:
        rule, reason = result.broken[0]
        return {"origin": result.origin, "rule": rule, "reason": reason, "text": result.text}
    leak = verdicts.leaks.get(row)
    is_near = section.drop_near_duplicates and verdicts.near_to[row] >= 0
    kept = parts.result(int(verdicts.near_to[row])).origin if is_near else ""
    if leak and is_dropped(leak, section):
        rule, reason = "contaminated", f"it holds words of the benchmark item {leak.item}."
    elif section.drop_duplicates and verdicts.equal_to[row] >= 0:
        first = parts.result(int(verdicts.equal_to[row])).origin
        rule, reason = "duplicate", f"equal to {first}, which is kept."
        if is_near:  # its first copy went, too
            reason = f"equal to {first}, which is nearly equal to {kept}, which is kept."
    elif is_near:
        rule = "near_duplicate"
        reason = f"nearly equal to {kept}, which is kept ({verdicts.similarity[row]:.0%} alike)."
    else:
        return None
    return {"origin": result.origin, "rule": rule, "reason": reason, "text": text_of(result)}


def text_of(result: RowResult) -> str:
    """The row as plain text."""
    return show(Conversation.from_json(result.conversation))


def _twin(row: int, verdicts: Verdicts, parts: Parts) -> dict[str, Any]:
    """The row that this one repeats, and how alike they are."""
    if verdicts.copy_of[row] >= 0:
        return {"repeats": parts.result(int(verdicts.copy_of[row])).origin, "similarity": 1.0}
    if verdicts.near_to[row] >= 0:
        twin = parts.result(int(verdicts.near_to[row])).origin
        return {"repeats": twin, "similarity": round(float(verdicts.similarity[row]), 3)}
    return {}


def _faults(row: int, result: RowResult, verdicts: Verdicts) -> list[str]:
    """All that is wrong with the row, whichever of it decides."""
    found = [*result.faults, *(rule for rule, _ in result.broken)]
    if verdicts.copy_of[row] >= 0:
        found.append("duplicate")
    elif verdicts.near_to[row] >= 0:
        found.append("near_duplicate")
    found += [f"private_{finding['kind']}" for finding in result.findings]
    if row in verdicts.leaks:
        found.append("contaminated")
    return list(dict.fromkeys(found))


def _count(
    counts: Counts,
    result: RowResult,
    rejection: dict[str, Any] | None,
    faults: list[str],
    leak: Overlap | None,
) -> None:
    counts.num_read += 1
    counts.num_kept += not rejection
    if rejection:
        counts.rejected[rejection["rule"]] += 1
        if len(counts.first_rejected) < 3:
            counts.first_rejected.append(rejection)
    counts.faults.update(faults)
    counts.personal.update(finding["kind"] for finding in result.findings)
    if leak:
        counts.benchmarks[leak.benchmark] += 1


def _chosen_changes(
    result: RowResult, section: CleanSection, counts: Counts
) -> Iterator[dict[str, Any]]:
    for change in result.changes:
        before = min(counts.repaired[name] for name in change["repairs"])
        counts.repaired.update(change["repairs"])
        if section.record_changes == "all" or before < NUM_SAMPLES:
            yield change


def _write(file: IO[str], rows: Any) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
