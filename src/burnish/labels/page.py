"""The audit of labels as one HTML page, with examples coloured by what carries loss."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from burnish.html_page import bars, document, length_label, section, table
from burnish.labels.examples import Shown
from burnish.labels.marked import STYLE, as_html, pieces
from burnish.labels.report import Finding, LabelReport
from burnish.lengths import Bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STYLE = (
    STYLE
    + """
.finding { border-left: 4px solid var(--bar); padding-left: .8rem; margin: 1rem 0; }
.finding.error { border-color: var(--gone); }
.finding code { background: var(--panel); padding: .1rem .3rem; overflow-wrap: anywhere; }
"""
)


def render_page(
    report: LabelReport,
    histogram: Sequence[Bar],
    examples: Sequence[Shown],
    tokenizer: PreTrainedTokenizerBase,
) -> str:
    """The page of a report, with a chart of lengths and some examples token by token."""
    body = [
        f"<h1>Labels of {escape(report.target)}</h1>",
        f'<p class="note">{_summary(report)}</p>',
        section(
            "Findings",
            "Errors stop training; what to do stands under each.",
            "".join(map(_finding, report.findings)),
        ),
        section("What carries loss", "", _figures(report)),
        section(
            "Lengths", f"Tokens of a row. {report.advice}.", bars(map(length_label, histogram))
        ),
        section("Special tokens", "As each file names them.", _special(report)),
        section(
            "Examples",
            "Coloured tokens carry loss; a line parts them; control tokens are framed, and a wavy "
            "line marks a label that is another token. Hover for ids.",
            "".join(example_html(each, tokenizer) for each in examples),
        ),
    ]
    return document(f"Labels of {report.target}", "".join(body), _STYLE)


def example_html(example: Shown, tokenizer: PreTrainedTokenizerBase) -> str:
    """One example, folded up: why it is shown, where it comes from, and its tokens."""
    found = list(pieces(example.input_ids, example.labels, tokenizer))
    more = example.num_tokens - len(example.input_ids)
    rest = f'<p class="note">… and {more:,} tokens more.</p>\n' if more else ""
    cut = f", {example.num_cut:,} cut off" if example.num_cut else ""
    head = (
        f"<b>{escape(example.why)}</b> {example.num_tokens:,} tokens, "
        f"{example.num_supervised:,} with loss{cut} "
        f'<span class="origin">{escape(example.origin)}</span>'
    )
    return f"<details open><summary>{head}</summary>\n{as_html(found)}{rest}</details>\n"


def examples_page(title: str, examples: Sequence[Shown], tokenizer: PreTrainedTokenizerBase) -> str:
    """A page of examples alone."""
    shown = "".join(example_html(each, tokenizer) for each in examples)
    return document(title, f"<h1>{escape(title)}</h1>\n{shown}", _STYLE)


def _summary(report: LabelReport) -> str:
    splits = ", ".join(f"{escape(name)} {count:,}" for name, count in report.num_examples.items())
    return (
        f"Rows: {splits}. {report.num_supervised:,} of {report.num_tokens:,} tokens "
        f"({report.supervised_share:.1%}) carry loss."
    )


def _finding(finding: Finding) -> str:
    rows = f", {finding.count:,} rows" if finding.count else ""
    first = f'<br><span class="origin">{escape(", ".join(finding.first))}</span>'
    return (
        f'<div class="finding {escape(finding.level)}"><b>{escape(finding.name)}</b> '
        f"({escape(finding.level)}{rows})<br>{escape(finding.what)}<br>"
        f"<code>{escape(finding.remedy)}</code>{first if finding.first else ''}</div>\n"
    )


def _figures(report: LabelReport) -> str:
    counts = [
        ("answers (runs of tokens with loss)", report.num_answers),
        ("of them with a stop token that is learned", report.num_with_stop_token),
        ("rows without any token that carries loss", report.num_without_supervised),
        ("rows whose end was cut off", report.num_cut),
    ]
    rows = [(escape(name), f"{count:,}") for name, count in counts]
    listed = {
        "tokens": report.lengths,
        "tokens with loss": report.supervised_lengths,
        "tokens cut off": report.cut_tokens,
    }
    heads = ["", *report.lengths]
    lengths = [
        (name, *(f"{values[head]:,}" for head in report.lengths))
        for name, values in listed.items()
        if values
    ]
    return table(("", "count"), rows, numbers=(1,)) + table(
        heads, lengths, numbers=range(1, len(heads))
    )


def _special(report: LabelReport) -> str:
    rows = [
        (escape(file), *(escape(", ".join(kinds.get(k, []))) for k in ("eos", "bos", "pad")))
        for file, kinds in report.special_tokens.items()
    ]
    stops = escape(", ".join(report.stop_tokens))
    return table(("", "eos", "bos", "pad"), rows) + f"<p>An answer ends with: {stops}</p>\n"
