"""Files of a model that disagree about its special tokens are found; several ids are no quarrel."""

from __future__ import annotations

import json
from datetime import date

from burnish.labels.model_files import MODEL_FINDINGS, MODEL_REMEDIES
from burnish.rendering import pin_date
from tests.conftest import CHATML, byte_tokenizer
from tests.labels.sets import audited, found, model_files, plain_rows


def test_every_finding_has_a_remedy():
    assert set(MODEL_FINDINGS) == set(MODEL_REMEDIES)


def test_an_eos_that_servers_do_not_know_is_a_warning(tmp_path):
    folder = model_files(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    (finding,) = audited(plain_rows(), folder=folder).findings
    assert (finding.name, finding.level, finding.count) == ("eos_disagrees", "warning", 0)
    assert finding.what == (
        "eos is '<|im_end|>' (2) to the tokenizer and '<|endoftext|>' (0) in generation_config.json"
    )
    assert "eos_token_id" in finding.remedy


def test_an_eos_among_several_agrees_and_the_config_counts_without_a_generation_config(tmp_path):
    folder = model_files(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert found(plain_rows(), folder=folder) == {}
    (folder / "generation_config.json").unlink()
    model_files(tmp_path, eos_token_id=0)
    (folder / "generation_config.json").unlink()
    assert list(found(plain_rows(), folder=folder)) == ["eos_disagrees"]


def test_bos_and_pad_that_disagree_are_told_apart(tmp_path):
    folder = model_files(tmp_path, bos_token_id=9, pad_token_id=8)
    (folder / "generation_config.json").unlink()
    assert list(found(plain_rows(), folder=folder)) == ["bos_disagrees", "pad_disagrees"]


def test_a_model_that_says_nothing_disagrees_with_nothing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert found(plain_rows(), folder=tmp_path) == {}
    (tmp_path / "generation_config.json").write_text("no JSON")
    assert found(plain_rows(), folder=tmp_path) == {}


def test_a_template_with_a_date_is_a_warning_whether_it_is_pinned_or_not():
    tokenizer = byte_tokenizer("{{ strftime_now('%Y') }}" + CHATML)
    (finding,) = audited(plain_rows(tokenizer), tokenizer).findings
    assert (finding.name, finding.level) == ("live_date", "warning")
    pin_date(tokenizer, date(2026, 3, 9))
    (finding,) = audited(plain_rows(tokenizer), tokenizer).findings
    assert (finding.name, finding.level) == ("fixed_date", "warning")
    assert "always writes 2026-03-09, in training and serving alike" in finding.what
    assert "model.template_date" in finding.remedy
