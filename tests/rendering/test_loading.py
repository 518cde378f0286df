"""Tokenizers of model folders."""

from __future__ import annotations

import pytest

from burnish.errors import ModelError
from burnish.recipe import ModelSection
from burnish.rendering import load_tokenizer
from burnish.templates.plain import closed_with_eos, template_name
from tests.conftest import CHATML, byte_tokenizer
from tests.rendering.shapes import END, GLM_4, glm_4


@pytest.mark.parametrize(
    "own, wanted, name",
    [
        (CHATML, "auto", "own"),
        (None, "auto", "plain_zh"),
        (CHATML, "plain_en", "plain_en"),
        (None, "plain_zh", "plain_zh"),
    ],
)
def test_the_recipe_chooses_the_template(tmp_path, own, wanted, name):
    byte_tokenizer(own).save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, ModelSection(chat_template=wanted))
    assert template_name(loaded) == name


def test_a_tokenizer_without_pad_pads_with_eos(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path, ModelSection()).pad_token_id == END


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_tokenizer(tmp_path, ModelSection())


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelError, match="can't be loaded"):
        load_tokenizer(tmp_path, ModelSection())


def test_a_template_of_a_model_is_tried_out_before_it_is_used(tmp_path):
    byte_tokenizer("{{ 'a' * 10**9 }}").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="more than 512 MiB of memory") as caught:
        load_tokenizer(tmp_path, ModelSection())
    assert caught.value.where == str(tmp_path)


def test_a_template_that_is_not_used_is_not_tried_out(tmp_path):
    byte_tokenizer("{{ 'a' * 10**9 }}").save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, ModelSection(chat_template="plain_en"))
    assert template_name(loaded) == "plain_en"


def test_eos_is_added_to_a_template_that_ends_no_answer_and_to_no_other(tmp_path):
    glm_4().save_pretrained(tmp_path / "glm")
    loaded = load_tokenizer(tmp_path / "glm", ModelSection(end_of_answer="eos"))
    assert loaded.chat_template == closed_with_eos(GLM_4)
    # Saved with a run it stays, and is not added twice.
    loaded.save_pretrained(tmp_path / "run")
    again = load_tokenizer(tmp_path / "run", ModelSection(end_of_answer="eos"))
    assert again.chat_template == loaded.chat_template
    byte_tokenizer().save_pretrained(tmp_path / "chatml")
    assert (
        load_tokenizer(tmp_path / "chatml", ModelSection(end_of_answer="eos")).chat_template
        == CHATML
    )


def test_each_of_several_templates_gets_its_eos(tmp_path):
    tokenizer = glm_4()
    tokenizer.chat_template = {"default": GLM_4, "tool_use": GLM_4 + "\n"}
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, ModelSection(end_of_answer="eos"))
    assert loaded.chat_template == {
        "default": closed_with_eos(GLM_4),
        "tool_use": closed_with_eos(GLM_4),
    }
