"""The page is well-formed, whole, and nothing from the data is markup in it."""

from __future__ import annotations

from datasets import Dataset

from burnish.labels.audit import audit_labels
from burnish.labels.examples import Shown
from burnish.labels.page import examples_page
from tests.auditing.test_page import checked
from tests.conftest import byte_tokenizer
from tests.labels.sets import masked, rendered
from tests.rendering.shapes import talk

EVIL = "<script>alert('1')</script>\"&amp;"


def written(rows, path):
    report = audit_labels(
        {"": Dataset.from_list(rows)}, byte_tokenizer(), None, EVIL, page=path / "x.html"
    )
    assert report.page == str(path / "x.html")
    return (path / "x.html").read_text(encoding="utf-8")


def test_the_page_has_findings_with_remedies_and_examples_and_escapes_all_texts(tmp_path):
    rows = rendered([talk(EVIL, f"头痛 {EVIL} {i}") for i in range(30)], byte_tokenizer())
    rows = [masked(row, -1) | {"origin": EVIL} for row in rows]
    page = checked(written(rows, tmp_path))
    assert "script" not in page.tags
    text = "".join(page.text)
    assert "masked_stop_token" in text
    assert "train_on_eos: turn" in text
    assert "头" in text
    assert f"Labels of {EVIL}" in text
    assert page.tags.count("details") == 20
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in page.attributes)


def test_a_page_without_findings_says_so(tmp_path):
    page = written(rendered([talk("q", "a")], byte_tokenizer()), tmp_path)
    assert '<p class="note">None.</p>' in page
    assert "prepare.max_length:" in page


def test_a_page_of_examples_alone_says_what_is_left_out():
    shown = Shown("longest", "a.csv:1", [1, 2], [-100, 2], 1002, 1, 30)
    page = checked(examples_page("Preview", [shown], byte_tokenizer()))
    text = "".join(page.text)
    assert "1,002 tokens, 1 with loss, 30 cut off" in text
    assert "… and 1,000 tokens more." in text
