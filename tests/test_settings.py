"""Settings in the words of a YAML author."""

from __future__ import annotations

from burnish.settings import all_settings, type_name


def test_every_setting_has_help_and_a_type_in_words():
    settings = all_settings()
    assert len(settings) > 80
    for name, field in settings.items():
        assert field.description, name
        assert "<" not in type_name(field.annotation), name


def test_settings_are_listed_by_dotted_name():
    settings = all_settings()
    assert {"run_dir", "train.lora.r", "data.sources[].columns.output"} <= settings.keys()
    assert type_name(settings["data.sources[].columns.output"].annotation) == (
        "text or list of text or null"
    )
    assert type_name(settings["train.bf16"].annotation) == "`auto` or true or false"
