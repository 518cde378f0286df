"""The certificate: what it holds, and that it comes back from its file as it was."""

from __future__ import annotations

import json
from datetime import date

import pytest

from burnish.conversation import IGNORE_INDEX
from burnish.errors import RunError
from burnish.parity.certificate import (
    certify,
    on_day,
    read_certificate,
    render_plainly,
    text_of_token,
    write_certificate,
)
from burnish.rendering import render_example, render_prompt
from burnish.run_dir import RunDir
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import SHAPES, of_shape

DATED = (
    "{{ 'Today: ' + strftime_now('%d %b %Y') + '\n' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def renderings(certificate):
    return {r.name: r for r in certificate.renderings}


def test_a_probe_is_held_as_the_ids_and_labels_of_training(tokenizer):
    found = renderings(certify(tokenizer))["several turns"]
    example = render_example(found.conversation, tokenizer, 10_000)
    assert found.input_ids == example.input_ids
    assert found.labels == example.labels
    assert found.prompt_ids == render_prompt(found.conversation.question, tokenizer)
    assert tokenizer.decode([t for t in found.labels if t != IGNORE_INDEX]) == (
        "Blue.<|im_end|>That is so: 好的.<|im_end|>"
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_alone_renders_all_prompts_alike_but_those_with_control_tokens(shape):
    tokenizer = of_shape(shape)
    for rendering in certify(tokenizer).renderings:
        if not rendering.refused:
            assert rendering.plain or rendering.name.startswith("markers of"), rendering.name
    own = renderings(certify(tokenizer))["markers of this tokenizer"]
    assert not own.plain


def test_a_conversation_that_the_template_refuses_is_held_with_its_reason():
    found = renderings(certify(of_shape("gemma")))
    assert "roles must alternate" in found["system prompt"].refused
    assert found["system prompt"].prompt_ids == []
    assert found["one question"].refused == ""


@pytest.mark.parametrize("shape", ["chatml", "gemma"])
def test_it_comes_back_from_its_file_as_it_was(tmp_path, shape):
    certificate = certify(of_shape(shape))
    run = RunDir(tmp_path)
    write_certificate(certificate, run.prompts)
    assert read_certificate(run) == certificate


def test_the_same_tokenizer_writes_the_same_bytes_again(tmp_path):
    for name in ("a", "b"):
        write_certificate(certify(byte_tokenizer()), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_run_without_one_is_told_to_prepare_again(tmp_path):
    with pytest.raises(RunError, match="an older burnish made it") as caught:
        read_certificate(RunDir(tmp_path))
    assert "burnish prepare RECIPE --force" in caught.value.remedy


@pytest.mark.parametrize("change", ["ids", "json", "list", "empty"])
def test_a_file_that_was_changed_is_refused(tmp_path, change):
    run = RunDir(tmp_path)
    write_certificate(certify(byte_tokenizer()), run.prompts)
    text = run.prompts.read_text(encoding="utf-8")
    changed = {
        "ids": text.replace('"text_ids": [', '"text_ids": [5,'),
        "json": text[:-5],
        "list": "[]",
        "empty": "",
    }[change]
    run.prompts.write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match="not the certificate that prepare wrote"):
        read_certificate(run)


def test_one_of_another_version_says_so(tmp_path):
    run = RunDir(tmp_path)
    run.prompts.parent.mkdir()
    run.prompts.write_text(json.dumps({"format": 99, "sha256": "0"}), encoding="utf-8")
    with pytest.raises(RunError, match="another version"):
        read_certificate(run)


def test_a_template_that_writes_the_date_is_rendered_for_the_day_of_the_certificate():
    tokenizer = byte_tokenizer(DATED)
    certificate = certify(tokenizer, today=date(2026, 3, 9))
    assert certificate.day == "2026-03-09"
    ids = renderings(certificate)["one question"].prompt_ids
    text = tokenizer.decode(ids)
    assert text.startswith("Today: 09 Mar 2026\n<|im_start|>user\nWhat is")
    later = renderings(certify(tokenizer, today=date(2026, 3, 10)))["one question"]
    assert later.prompt_ids != ids
    assert render_plainly(later.conversation, on_day(tokenizer, "2026-03-09")) == ids


def test_each_of_several_templates_is_rendered_for_that_day():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": DATED, "tool_use": "{{ strftime_now('%Y') }}T"}
    certificate = certify(tokenizer, today=date(2026, 3, 9))
    ids = renderings(certificate)["one question"].prompt_ids
    assert tokenizer.decode(ids).startswith("Today: 09 Mar 2026")
    pinned = on_day(tokenizer, "2026-03-09").chat_template
    assert sorted(pinned) == ["default", "tool_use"]


def test_a_date_pinned_to_today_changes_nothing_else():
    tokenizer = byte_tokenizer("\n" + DATED)
    probe = certify(tokenizer).renderings[0].conversation
    pinned = on_day(tokenizer, date.today().isoformat())
    assert render_plainly(probe, pinned) == render_plainly(probe, tokenizer)
    assert tokenizer.chat_template == "\n" + DATED


def test_without_a_date_in_the_template_the_day_is_not_held(tokenizer):
    assert certify(tokenizer).day is None
    assert on_day(tokenizer, "2026-03-09") is tokenizer


def test_a_token_that_is_part_of_a_character_is_shown_by_its_name(tokenizer):
    assert text_of_token(tokenizer, 2) == "<|im_end|>"
    head, *_ = tokenizer("头", add_special_tokens=False)["input_ids"]
    assert text_of_token(tokenizer, head) == tokenizer.convert_ids_to_tokens(head)


@pytest.mark.parametrize("token", [-1, 10**6, 2**31, 10**30])
def test_an_id_that_is_no_token_is_shown_as_a_number(tokenizer, token):
    assert text_of_token(tokenizer, token) == f"<{token}>"
