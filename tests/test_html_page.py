"""The pieces of a page: escaped, and nothing where there is nothing to show."""

from __future__ import annotations

from burnish.html_page import bars, details, document, length_label, section, table
from burnish.lengths import Bar


def test_titles_and_labels_are_escaped():
    page = document("<b>", section("<i>", "a & b", details("<u>", 1200, "<s>", "<p>kept</p>")))
    assert "<title>&lt;b&gt;</title>" in page
    assert "<h2>&lt;i&gt;</h2>" in page
    assert "a &amp; b" in page
    assert "<b>1,200</b> &lt;u&gt;" in page
    assert "<p>kept</p>" in page


def test_a_page_allows_itself_neither_scripts_nor_the_network():
    assert "default-src 'none'; style-src 'unsafe-inline'" in document("x", "")


def test_the_longest_bar_is_full_and_others_have_their_share():
    shown = bars([("<a>", 4), ("b", 1)])
    assert '<td class="label">&lt;a&gt;</td>' in shown
    assert "width:100.0%" in shown
    assert "width:25.0%" in shown


def test_nothing_is_shown_of_nothing():
    assert bars([]) == table(("a",), []) == ""
    assert "None." in section("a", "b", "")


def test_the_bar_of_the_longest_rows_has_no_end():
    assert length_label(Bar(0, 10, 3)) == ("0 to 9", 3)
    assert length_label(Bar(1000, None, 2)) == ("1,000 or more", 2)
