"""The rules of the house that no type checker knows."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from burnish.cli import app
from burnish.pipeline import STAGES
from burnish.recipe import Recipe
from burnish.recipe_file import load_recipe
from burnish.run_dir import FOLDERS
from burnish.settings import all_settings

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "burnish"


def test_every_stage_has_one_word_for_command_section_function_and_folder():
    commands = set(get_command(app).commands)
    for stage in STAGES:
        module, _, function = stage.function.partition(":")
        assert function == stage.name == module.rpartition(".")[2]
        assert stage.name in commands
        assert stage.name in Recipe.model_fields
        assert FOLDERS[stage.name].partition("-")[2] == stage.name


def test_a_stage_function_takes_the_sections_that_make_up_its_key_and_the_run_folder():
    for stage in STAGES:
        module, _, function = stage.function.partition(":")
        taken = inspect.signature(getattr(importlib.import_module(module), function)).parameters
        assert len(taken) == len(stage.sections) + 1
        kinds = [parameter.annotation for parameter in taken.values()]
        expected = [Recipe.model_fields[name].annotation.__name__ for name in stage.sections]
        assert kinds == [*expected, "RunDir"]


@pytest.mark.parametrize("arguments", [["--help"], ["clean", "--help"], ["schema"]])
def test_help_loads_neither_torch_nor_transformers(arguments):
    code = (
        "import sys\nfrom burnish.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_generated_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_has_a_default_in_one_place_and_a_help_text():
    settings = all_settings()
    assert len(settings) > 80
    assert [name for name, field in settings.items() if not field.description] == []


def test_the_schema_of_recipes_is_valid_json_schema():
    schema = Recipe.model_json_schema()
    assert schema["additionalProperties"] is False
    assert "learning_rate" in json.dumps(schema)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_every_ready_recipe_loads(path):
    assert load_recipe(path).recipe.data.sources


def test_no_module_is_called_after_nothing():
    vague = {"utils", "common", "helpers", "misc", "manager", "base", "core"}
    assert [p for p in SOURCE.rglob("*.py") if p.stem in vague] == []


def test_every_module_has_a_test_file_of_its_name():
    without = []
    exempt = {"__init__"}
    for path in SOURCE.rglob("*.py"):
        twin = ROOT / "tests" / path.relative_to(SOURCE).with_name(f"test_{path.name}")
        if path.stem not in exempt and not twin.is_file():
            without.append(str(twin.relative_to(ROOT)))
    assert without == []
