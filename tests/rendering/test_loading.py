"""Tokenizers of model folders."""

from __future__ import annotations

from datetime import date

import pytest

from burnish.conversation import Message
from burnish.errors import ModelError
from burnish.recipe import ModelSection
from burnish.rendering import day_of, has_live_date, load_tokenizer, pin_date, render_prompt
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


DATED = "{{ strftime_now('%Y-%m-%d') + '\n' }}" + CHATML


def test_a_template_that_writes_todays_date_writes_the_recipes_day(tmp_path):
    byte_tokenizer(DATED).save_pretrained(tmp_path / "model")
    section = ModelSection(template_date=date(2024, 7, 26))
    loaded = load_tokenizer(tmp_path / "model", section)
    assert day_of(loaded) == "2024-07-26"
    assert loaded.decode(render_prompt([Message("user", "a")], loaded)).startswith("2024-07-26\n<")
    # Saved with a run it stays, whatever the recipe says then.
    loaded.save_pretrained(tmp_path / "run")
    again = load_tokenizer(tmp_path / "run", ModelSection(template_date=date(2030, 1, 1)))
    assert again.chat_template == loaded.chat_template


def test_without_such_a_day_the_date_stays_todays_until_it_is_pinned(tmp_path):
    byte_tokenizer(DATED).save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, ModelSection())
    assert has_live_date(loaded)
    assert day_of(loaded) is None
    assert pin_date(loaded, date(2026, 3, 9))
    assert not has_live_date(loaded)
    assert not pin_date(loaded, date(2026, 3, 10))
    assert day_of(loaded) == "2026-03-09"


def test_nothing_is_pinned_where_there_is_no_date_or_no_template(tokenizer):
    assert not pin_date(tokenizer, date(2026, 3, 9))
    assert tokenizer.chat_template == CHATML
    assert not pin_date(byte_tokenizer(None), date(2026, 3, 9))
    assert not has_live_date(byte_tokenizer(None))


def test_each_of_several_templates_is_pinned(tokenizer):
    tokenizer.chat_template = {"default": CHATML, "tool_use": DATED}
    assert pin_date(tokenizer, date(2026, 3, 9))
    assert tokenizer.chat_template["default"] == CHATML
    assert day_of(tokenizer) == "2026-03-09"


def test_variables_of_the_template_become_part_of_it(tmp_path):
    opens = "{{ '<think>\n' if enable_thinking is not defined or enable_thinking }}"
    byte_tokenizer(
        CHATML + "{% if add_generation_prompt %}" + opens + "{% endif %}"
    ).save_pretrained(tmp_path / "model")
    section = ModelSection(chat_template_kwargs={"enable_thinking": False})
    loaded = load_tokenizer(tmp_path / "model", section)
    asked = [Message("user", "a")]
    assert loaded.decode(render_prompt(asked, loaded)).endswith("assistant\n")
    assert loaded.apply_chat_template(
        [m.as_dict() for m in asked], add_generation_prompt=True, return_dict=False
    ) == render_prompt(asked, loaded)
    loaded.save_pretrained(tmp_path / "run")
    assert load_tokenizer(tmp_path / "run", section).chat_template == loaded.chat_template


def test_new_tokens_are_read_in_anybodys_text_unless_the_template_writes_them(tmp_path):
    said = [Message("user", "a <|tool|> b")]
    new = 3 + 256
    byte_tokenizer().save_pretrained(tmp_path)
    section = ModelSection(new_tokens=["<|tool|>"])
    assert new in render_prompt(said, load_tokenizer(tmp_path, section))
    own = byte_tokenizer("<|tool|>" + CHATML)
    own.save_pretrained(tmp_path)
    prompt = render_prompt(said, load_tokenizer(tmp_path, section))
    assert prompt.count(new) == 1
    assert prompt[0] == new


def test_a_run_s_own_tokenizer_has_them_from_before(tmp_path):
    byte_tokenizer().save_pretrained(tmp_path / "base")
    section = ModelSection(new_tokens=["HbA1c"])
    first = load_tokenizer(tmp_path / "base", section)
    first.save_pretrained(tmp_path / "run")
    assert len(load_tokenizer(tmp_path / "run", section)) == len(first) == 3 + 256 + 1
