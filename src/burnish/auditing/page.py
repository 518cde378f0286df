"""The audit as one HTML page that needs nothing else: no script, no font, no network.

All that comes from the data is escaped; the page's own policy forbids scripts besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from burnish.auditing.report import AuditReport, Change, Copy, Lengths
from burnish.cleaning.faults import FAULTS
from burnish.cleaning.rules import RULES
from burnish.html_page import bars, details, document, length_label, section, table
from burnish.lengths import Bar
from burnish.recipe import CleanSection

_REPEATS = {
    "exact": "equal to an earlier row after cleaning, rejected ones counted",
    "near": "nearly equal to a row that is kept",
}

_PARTS = ("question", "answer", "conversation")


def render_page(report: AuditReport, histograms: Mapping[str, Sequence[Bar]]) -> str:
    """The page of a report, with a chart for each of the histograms by its title."""
    body = [
        f"<h1>Audit of {escape(report.target)}</h1>",
        f'<p class="note">{report.num_read:,} rows read; cleaning with these settings would keep '
        f"{report.num_kept:,}. Nothing was changed.</p>",
        _sources(report),
        section("Rows left", "After each step of cleaning that drops some.", _left(report)),
        _lengths(report.lengths, histograms),
        section(
            "Languages",
            "Of the answers, by the script that most of their words are written in.",
            bars(report.languages.items()),
        ),
        _duplicates(report),
        _listed(report),
        _switched_off(report),
        _rest(report),
    ]
    return document(f"Audit of {report.target}", "".join(body))


def _sources(report: AuditReport) -> str:
    rows = [
        (
            escape(name),
            escape(look.layout),
            escape(", ".join(f"{part}: {column}" for part, column in look.columns.items())),
            f"{look.num_rows:,}",
        )
        for name, look in report.sources.items()
    ]
    listed = table(("source", "layout", "columns", "rows"), rows, numbers=(3,))
    return section("Sources", "How each is read.", listed)


def _left(report: AuditReport) -> str:
    dropped = report.num_dropped
    return bars(
        (f"{step} (−{dropped[step]:,})" if step in dropped else step, left)
        for step, left in report.rows_left.items()
    )


def _lengths(lengths: Lengths, histograms: Mapping[str, Sequence[Bar]]) -> str:
    tables = "".join(
        f"<h3>In {unit}</h3>\n" + _percentile_table(values)
        for unit, values in (("characters", lengths.characters), ("tokens", lengths.tokens))
        if values
    )
    charts = "".join(
        f"<div><h3>{escape(title)}</h3>\n{bars(map(length_label, chart))}</div>\n"
        for title, chart in histograms.items()
        if chart
    )
    note = f'<p class="note">Tokens: {escape(lengths.tokens_of)}</p>\n'
    advice = f"<p>{escape(lengths.advice)}</p>\n" if lengths.advice else ""
    content = f'{tables}{note}{advice}<div class="pair">{charts}</div>' if tables else ""
    return section("Lengths", "Of the rows that would be kept, after repair.", content)


def _percentile_table(values: Mapping[str, Mapping[str, int]]) -> str:
    names = list(next(iter(values.values())))
    heads = [name if name == "max" else f"{name.removeprefix('p')} %" for name in names]
    rows = [(part, *(f"{values[part][n]:,}" for n in names)) for part in _PARTS if part in values]
    return table(("", *heads), rows, numbers=range(1, len(names) + 1))


def _duplicates(report: AuditReport) -> str:
    content = ""
    for kind, count in report.duplicates.items():
        rows = [
            (_origin(origin), _origin(copy.repeats), f"{copy.similarity:.0%}", _both(copy))
            for origin, copy in report.examples.duplicates.get(kind, {}).items()
        ]
        heads = ("row", "repeats", "alike", "texts")
        listed = table(heads, rows, numbers=(2,))
        content += details(kind, count, _REPEATS[kind], listed)
    return section("Duplicates", "Rows that repeat another one, which is kept.", content)


def _both(copy: Copy) -> str:
    text, kept = escape(copy.text), escape(copy.repeated_text)
    return text if text == kept else f"{text}<br>{kept}"


def _listed(report: AuditReport) -> str:
    examples = report.examples
    parts = (
        ("Faults", "Rows with each fault, as they come.", report.faults, examples.faults),
        (
            "Rules",
            "Rows that break each rule. A row that breaks several is dropped by the first.",
            report.broken_rules,
            examples.rules,
        ),
        ("Repairs", "Rows that each repair changes.", report.repairs, examples.repairs),
    )
    return "".join(
        section(title, note, _counted(counts, shown)) for title, note, counts, shown in parts
    )


def _switched_off(report: AuditReport) -> str:
    note = "Rows that would be changed or dropped besides, if these settings were on."
    content = _counted(report.switched_off, report.examples.switched_off)
    return section("Settings that are off", note, content)


def _rest(report: AuditReport) -> str:
    examples = report.examples
    return section(
        "Personal data",
        "Findings of each kind, mostly hidden.",
        _counted(report.personal_data, examples.personal_data),
    ) + section(
        "Benchmark items",
        "Rows that hold words of a benchmark's items, where the recipe asks for it.",
        _counted(report.benchmark_items, examples.benchmark_items),
    )


def _counted(counts: Mapping[str, int], examples: Mapping[str, Mapping[str, str | Change]]) -> str:
    found = "".join(
        details(name, count, _words(name), _example_table(examples.get(name, {})))
        for name, count in counts.items()
        if count
    )
    absent = [name for name, count in counts.items() if not count]
    if absent:
        found += f'<p class="note">Not found: {escape(", ".join(absent))}.</p>\n'
    return found


def _example_table(examples: Mapping[str, str | Change]) -> str:
    rows = []
    for origin, example in examples.items():
        if isinstance(example, Change):
            shown = (
                f'<span class="before">{escape(example.before)}</span><br>'
                f'<span class="after">{escape(example.after)}</span>'
            )
        else:
            shown = escape(example)
        rows.append((_origin(origin), shown))
    return table(("row", "place"), rows)


def _origin(origin: str) -> str:
    return f'<span class="origin">{escape(origin)}</span>'


def _words(name: str) -> str:
    """What a fault, rule or setting is, in the words of the code that looks for it."""
    if name in FAULTS:
        return FAULTS[name].words
    if name in RULES:
        return (RULES[name].__doc__ or "").partition("\n")[0]
    setting = CleanSection.model_fields.get(name)
    return " ".join((setting.description or "").split()) if setting else ""
