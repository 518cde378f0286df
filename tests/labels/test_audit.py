"""The report's figures by hand, and the verdict that training asks for."""

from __future__ import annotations

import datasets
import pytest

from burnish.errors import DataError, RunError
from burnish.labels.audit import audit_labels
from burnish.recipe import LoraSettings
from tests.conftest import byte_tokenizer
from tests.labels.sets import audited, masked, plain_rows, rendered
from tests.rendering.shapes import talk

LORA = LoraSettings()


def test_the_figures_of_two_rows_by_hand():
    tokenizer = byte_tokenizer()
    rows = rendered([talk("q", "a"), talk("q", "a", "q", "bc")], tokenizer)
    prompt = len("_user\nq_\n_assistant\n")
    lengths = [prompt + 2, prompt + 2 + 1 + prompt + 3]
    report = audited(rows)
    assert report.num_examples == {"all": 2}
    assert report.num_tokens == sum(lengths)
    assert report.num_supervised == 2 + 2 + 3
    assert report.supervised_share == round(7 / sum(lengths), 4)
    assert (report.num_answers, report.num_with_stop_token) == (3, 3)
    assert (report.lengths["p50"], report.lengths["max"]) == tuple(lengths)
    assert report.supervised_lengths["max"] == 5
    assert (report.num_cut, report.cut_tokens) == (0, {})
    assert report.stop_tokens == ["<|im_end|>"]
    assert report.special_tokens["tokenizer"]["pad"] == ["<|endoftext|>"]
    assert report.advice == f"prepare.max_length: {-(-lengths[1] // 8) * 8} covers 99 % of the rows"


def test_a_set_without_rows_is_refused():
    empty = datasets.Dataset.from_dict({"input_ids": [], "labels": []})
    with pytest.raises(DataError, match="there is no row"):
        audit_labels({"": empty}, byte_tokenizer(), None, "x")


def test_a_page_that_can_not_be_written_is_one_message(tmp_path):
    split = {"": datasets.Dataset.from_list(plain_rows())}
    with pytest.raises(RunError, match="the page can't be written"):
        audit_labels(split, byte_tokenizer(), None, "x", page=tmp_path)


@pytest.mark.model
def test_the_embedded_model_has_no_findings_with_its_own_template_or_a_plain_one():
    from burnish.models.embedded import fetch
    from burnish.recipe import ModelSection
    from burnish.rendering import load_tokenizer

    folder = fetch()
    for template in ("auto", "plain_zh", "plain_en"):
        tokenizer = load_tokenizer(folder, ModelSection(chat_template=template))
        rows = rendered([talk(f"头痛 {i}?", f"多喝水 {i}") for i in range(10)], tokenizer)
        assert audited(rows, tokenizer, folder).findings == []


@pytest.mark.model
def test_the_embedded_models_pad_may_be_its_stop_token_as_long_as_places_are_masked():
    from burnish.models.embedded import fetch
    from burnish.recipe import ModelSection
    from burnish.rendering import load_tokenizer

    tokenizer = load_tokenizer(fetch(), ModelSection())
    tokenizer.pad_token = tokenizer.eos_token
    rows = rendered([talk(f"q {i}", f"a {i}") for i in range(10)], tokenizer)
    assert audited(rows, tokenizer, fetch()).findings == []
    rows = [masked(row, -1) for row in rows]
    (finding,) = audited(rows, tokenizer, fetch()).findings
    assert (finding.name, finding.count) == ("stop_token_masked_as_padding", 10)
