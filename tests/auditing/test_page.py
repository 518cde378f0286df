"""The page: well-formed, whole, and nothing from the data is markup in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from burnish.auditing.page import render_page
from burnish.auditing.report import (
    AuditReport,
    Change,
    Copy,
    Examples,
    Lengths,
    SourceLook,
)
from burnish.lengths import Bar

EVIL = "<script>alert('1')</script>\"&amp;"
VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collects tags, attributes and text; every tag must be closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture
def report():
    """A report in which every text is markup."""
    change = {f"{EVIL}:1": Change(before=EVIL, after="二")}
    place = {f"{EVIL}:2": EVIL}
    copy = Copy(repeats=f"{EVIL}:3", similarity=0.93, text=EVIL, repeated_text="二" + EVIL)
    lengths = {"p50": 5, "p90": 9, "p95": 10, "p99": 1200, "max": 1300}
    return AuditReport(
        target=EVIL,
        page=None,
        num_read=1234567,
        num_kept=1200000,
        sources={EVIL: SourceLook(layout=EVIL, columns={"instruction": EVIL}, num_rows=1234567)},
        rows_left={"read": 1234567, "truncated": 1200000},
        num_dropped={"truncated": 34567},
        lengths=Lengths(
            characters={"question": lengths, "answer": lengths, "conversation": lengths},
            tokens={},
            tokens_of=EVIL,
            advice=EVIL,
        ),
        languages={"zh": 12, "en": 3},
        faults={"mark_runs": 7, "entities": 0},
        broken_rules={EVIL: 7},
        repairs={"squeeze_marks": 7},
        switched_off={"fullwidth_punctuation": 7},
        duplicates={"exact": 0, "near": 7},
        personal_data={EVIL: 7},
        benchmark_items={EVIL: 7},
        examples=Examples(
            faults={"mark_runs": place},
            rules={EVIL: place},
            repairs={"squeeze_marks": change},
            switched_off={"fullwidth_punctuation": change},
            duplicates={"near": {f"{EVIL}:4": copy}},
            personal_data={EVIL: place},
            benchmark_items={EVIL: place},
        ),
    )


HISTOGRAMS = {EVIL: [Bar(0, 10, 100), Bar(10, 20, 50), Bar(20, None, 1)]}


def test_the_page_is_well_formed_and_data_is_never_markup(report):
    checker = checked(render_page(report, HISTOGRAMS))
    assert not {"script", "img", "link", "iframe", "object"} & set(checker.tags)
    # Everywhere it stands it reads as it is: name of a source, layout, column, examples …
    assert "".join(checker.text).count(EVIL) >= 15


def test_the_page_needs_nothing_from_elsewhere(report):
    page = render_page(report, HISTOGRAMS)
    assert not re.search(r"https?:|url\(|@import|src=|href=", page)
    policies = [v for n, v in checked(page).attributes if n == "content" and "default-src" in v]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "@media (prefers-color-scheme: dark)" in page


def test_numbers_have_separators_and_bars_their_share_of_the_longest(report):
    page = render_page(report, HISTOGRAMS)
    assert "1,234,567 rows read" in page
    assert "truncated (−34,567)" in page
    for share in ("width:100.0%", "width:50.0%", "width:1.0%", "width:97.2%", "width:25.0%"):
        assert share in page
    for label in ("0 to 9", "10 to 19", "20 or more"):
        assert f">{label}<" in page


def test_what_was_not_found_is_named_and_what_was_is_explained(report):
    page = render_page(report, HISTOGRAMS)
    assert "Not found: entities." in page
    assert "a mark three or more times in a row" in page
    assert "Shorten runs of one Chinese mark" in page


def test_before_and_after_stand_in_two_lines(report):
    page = render_page(report, HISTOGRAMS)
    assert '</span><br><span class="after">二</span>' in page


def test_an_empty_report_is_a_page_too(report):
    empty = report.model_copy(
        update={
            "sources": {},
            "languages": {},
            "duplicates": {"exact": 0, "near": 0},
            "faults": {},
            "broken_rules": {},
            "repairs": {},
            "switched_off": {},
            "personal_data": {},
            "benchmark_items": {},
            "lengths": Lengths(characters={}, tokens={}, tokens_of="not counted", advice=""),
            "examples": Examples(
                faults={},
                rules={},
                repairs={},
                switched_off={},
                duplicates={},
                personal_data={},
                benchmark_items={},
            ),
        }
    )
    assert "None." in "".join(checked(render_page(empty, {})).text)
