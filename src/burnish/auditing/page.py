"""The audit as one HTML page that needs nothing else: no script, no font, no network.

All that comes from the data is escaped; the page's own policy forbids scripts besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from burnish.auditing.measures import Bar
from burnish.auditing.report import AuditReport, Change, Copy, Lengths
from burnish.cleaning.faults import FAULTS
from burnish.cleaning.rules import RULES
from burnish.recipe import CleanSection

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #5c6675; --line: #d9dee6;
  --ground: #ffffff; --panel: #f5f7fa; --bar: #3b76c4; --gone: #c25b3f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ef; --dim: #98a3b3; --line: #343c48;
  --ground: #14181e; --panel: #1c222a; --bar: #6ea3e8; --gone: #e08a6e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; color: var(--ink);
  background: var(--ground); line-height: 1.5; font-family: system-ui, -apple-system, "Segoe UI",
  "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p.note { color: var(--dim); margin: .2rem 0 .8rem; }
table { border-collapse: collapse; width: 100%; margin: .3rem 0; }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--dim); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bars td { border: 0; padding-block: .1rem; vertical-align: middle; }
.bars td.label { white-space: nowrap; width: 1%; }
.bars td.number { width: 1%; }
.bars span { display: block; height: .85rem; min-width: 1px; background: var(--bar);
  border-radius: 2px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 2rem; }
details { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  margin: .4rem 0; padding: .35rem .8rem; }
summary { cursor: pointer; }
summary b { font-variant-numeric: tabular-nums; }
summary .dim { color: var(--dim); }
.before { color: var(--gone); } .after { color: var(--bar); }
.origin { white-space: nowrap; color: var(--dim); font-size: .9em; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

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
        _section("Rows left", "After each step of cleaning that drops some.", _left(report)),
        _lengths(report.lengths, histograms),
        _section(
            "Languages",
            "Of the answers, by the script that most of their words are written in.",
            _bars(report.languages.items()),
        ),
        _duplicates(report),
        _listed(report),
        _switched_off(report),
        _rest(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Audit of {escape(report.target)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{''.join(body)}\n</body>\n</html>\n"
    )


def _section(title: str, note: str, content: str) -> str:
    inner = content or '<p class="note">None.</p>'
    return f'\n<h2>{escape(title)}</h2>\n<p class="note">{escape(note)}</p>\n{inner}'


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
    table = _table(("source", "layout", "columns", "rows"), rows, numbers=(3,))
    return _section("Sources", "How each is read.", table)


def _left(report: AuditReport) -> str:
    dropped = report.num_dropped
    return _bars(
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
        f"<div><h3>{escape(title)}</h3>\n{_bars(map(_length_label, bars))}</div>\n"
        for title, bars in histograms.items()
        if bars
    )
    note = f'<p class="note">Tokens: {escape(lengths.tokens_of)}</p>\n'
    advice = f"<p>{escape(lengths.advice)}</p>\n" if lengths.advice else ""
    content = f'{tables}{note}{advice}<div class="pair">{charts}</div>' if tables else ""
    return _section("Lengths", "Of the rows that would be kept, after repair.", content)


def _percentile_table(values: Mapping[str, Mapping[str, int]]) -> str:
    names = list(next(iter(values.values())))
    heads = [name if name == "max" else f"{name.removeprefix('p')} %" for name in names]
    rows = [(part, *(f"{values[part][n]:,}" for n in names)) for part in _PARTS if part in values]
    return _table(("", *heads), rows, numbers=range(1, len(names) + 1))


def _length_label(bar: Bar) -> tuple[str, int]:
    until = "or more" if bar.stop is None else f"to {bar.stop - 1:,}"
    return f"{bar.start:,} {until}", bar.count


def _duplicates(report: AuditReport) -> str:
    content = ""
    for kind, count in report.duplicates.items():
        rows = [
            (_origin(origin), _origin(copy.repeats), f"{copy.similarity:.0%}", _both(copy))
            for origin, copy in report.examples.duplicates.get(kind, {}).items()
        ]
        heads = ("row", "repeats", "alike", "texts")
        table = _table(heads, rows, numbers=(2,))
        content += _details(kind, count, _REPEATS[kind], table)
    return _section("Duplicates", "Rows that repeat another one, which is kept.", content)


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
        _section(title, note, _counted(counts, shown)) for title, note, counts, shown in parts
    )


def _switched_off(report: AuditReport) -> str:
    note = "Rows that would be changed or dropped besides, if these settings were on."
    content = _counted(report.switched_off, report.examples.switched_off)
    return _section("Settings that are off", note, content)


def _rest(report: AuditReport) -> str:
    examples = report.examples
    return _section(
        "Personal data",
        "Findings of each kind, mostly hidden.",
        _counted(report.personal_data, examples.personal_data),
    ) + _section(
        "Benchmark items",
        "Rows that hold words of a benchmark's items, where the recipe asks for it.",
        _counted(report.benchmark_items, examples.benchmark_items),
    )


def _counted(counts: Mapping[str, int], examples: Mapping[str, Mapping[str, str | Change]]) -> str:
    found = "".join(
        _details(name, count, _words(name), _example_table(examples.get(name, {})))
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
    return _table(("row", "place"), rows)


def _origin(origin: str) -> str:
    return f'<span class="origin">{escape(origin)}</span>'


def _details(name: str, count: int, words: str, content: str) -> str:
    head = f'<b>{count:,}</b> {escape(name)} <span class="dim">{escape(words)}</span>'
    return f"<details><summary>{head}</summary>\n{content}</details>\n"


def _words(name: str) -> str:
    """What a fault, rule or setting is, in the words of the code that looks for it."""
    if name in FAULTS:
        return FAULTS[name].words
    if name in RULES:
        return (RULES[name].__doc__ or "").partition("\n")[0]
    setting = CleanSection.model_fields.get(name)
    return " ".join((setting.description or "").split()) if setting else ""


def _bars(values: Iterable[tuple[str, int]]) -> str:
    """A table with a bar for each value, the longest as wide as there is room."""
    listed = list(values)
    most = max((value for _, value in listed), default=0) or 1
    rows = "".join(
        f'<tr><td class="label">{escape(label)}</td><td class="number">{value:,}</td>'
        f'<td><span style="width:{100 * value / most:.1f}%"></span></td></tr>\n'
        for label, value in listed
    )
    return f'<table class="bars">\n{rows}</table>\n' if rows else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of cells that are HTML already; nothing where there are no rows."""
    if not rows:
        return ""
    right = set(numbers)

    def line(cells: Sequence[str], tag: str) -> str:
        marks = (' class="number"' if i in right else "" for i in range(len(cells)))
        filled = zip(cells, marks, strict=True)
        return f"<tr>{''.join(f'<{tag}{mark}>{cell}</{tag}>' for cell, mark in filled)}</tr>\n"

    body = "".join(line(row, "td") for row in rows)
    return f"<table>\n{line(heads, 'th')}{body}</table>\n"
