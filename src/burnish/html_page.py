"""What burnish's HTML pages share: one file each, that needs no script, no font, no network.

All texts are escaped here or are said to be HTML already; the page's own policy forbids scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from burnish.lengths import Bar

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
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; min-width: 5.5rem; }
th { font-weight: 600; color: var(--dim); }
th.number, td.number, .bars td { min-width: 0; }
.wide { overflow-x: auto; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bars td { border: 0; padding-block: .1rem; vertical-align: middle; }
.bars td.label { white-space: nowrap; width: 1%; }
.bars td.number { width: 1%; }
.bars span { display: block; height: .85rem; min-width: 2px; background: var(--bar);
  border-radius: 2px; }
.pair { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
details { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  margin: .4rem 0; padding: .35rem .8rem; }
summary { cursor: pointer; }
summary b { font-variant-numeric: tabular-nums; }
summary .dim { color: var(--dim); }
.before { color: var(--gone); } .after { color: var(--bar); }
.origin { overflow-wrap: anywhere; color: var(--dim); font-size: .9em; }
td > .origin { display: inline-block; min-width: 8rem; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, body: str, style: str = "") -> str:
    """A whole page; `body` is HTML, `style` is added to the house's own."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, note: str, content: str) -> str:
    """A heading, a line on what follows, and the content, which is HTML."""
    inner = content or '<p class="note">None.</p>'
    return f'\n<h2>{escape(title)}</h2>\n<p class="note">{escape(note)}</p>\n{inner}'


def details(name: str, count: int, words: str, content: str) -> str:
    """A count and a name that open the content, which is HTML."""
    head = f'<b>{count:,}</b> {escape(name)} <span class="dim">{escape(words)}</span>'
    return f"<details><summary>{head}</summary>\n{content}</details>\n"


def bars(values: Iterable[tuple[str, int]]) -> str:
    """A table with a bar for each value, the longest as wide as there is room."""
    listed = list(values)
    most = max((value for _, value in listed), default=0) or 1
    rows = "".join(
        f'<tr><td class="label">{escape(label)}</td><td class="number">{value:,}</td>'
        f"<td>{_bar(value / most)}</td></tr>\n"
        for label, value in listed
    )
    return f'<table class="bars">\n{rows}</table>\n' if rows else ""


def _bar(share: float) -> str:
    """A bar as wide as its share of the room; none for nothing."""
    return f'<span style="width:{100 * share:.1f}%"></span>' if share else ""


def length_label(bar: Bar) -> tuple[str, int]:
    """What `bars` takes for a bar of a histogram."""
    until = "or more" if bar.stop is None else f"to {bar.stop - 1:,}"
    return f"{bar.start:,} {until}", bar.count


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of cells that are HTML already; nothing where there are no rows."""
    if not rows:
        return ""
    right = set(numbers)

    def line(cells: Sequence[str], tag: str) -> str:
        marks = (' class="number"' if i in right else "" for i in range(len(cells)))
        filled = zip(cells, marks, strict=True)
        return f"<tr>{''.join(f'<{tag}{mark}>{cell}</{tag}>' for cell, mark in filled)}</tr>\n"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>\n{line(heads, "th")}{body}</table></div>\n'
