"""From a YAML file and `--set` options to a frozen Recipe, with the line of every fault."""

from __future__ import annotations

import difflib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from burnish.errors import RecipeError
from burnish.recipe import Recipe
from burnish.settings import all_settings, section_at

RECIPE_NAME = "recipe.yaml"

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe with the name that it goes by."""

    recipe: Recipe
    name: str

    @property
    def run_dir(self) -> Path:
        """The run folder, absolute."""
        return Path(self.recipe.run_dir or f"runs/{self.name}").absolute()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """The recipe in a YAML 1.2 file, or the one that a run folder holds.

    Precedence: defaults < file < overrides.

    Args:
        path: a recipe file, or a run folder.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        RecipeError: a fault, with file and line, what was found and what to do.
    """
    run_folder = path if path.is_dir() else None
    if run_folder is not None:
        path = path / RECIPE_NAME
    tree = _parse(_read(path, run_folder), path.name)
    for override in overrides:
        _apply_override(tree, override)
    try:
        recipe = Recipe.model_validate(_plain(tree))
    except ValidationError as error:
        raise _recipe_error(error, tree, path.name, overrides) from None
    if run_folder is not None and not any(
        o.partition("=")[0].strip() == "run_dir" for o in overrides
    ):
        # The folder may have been moved, and the path in its recipe may be relative.
        recipe = recipe.model_copy(update={"run_dir": str(run_folder)})
    return LoadedRecipe(recipe, path.stem)


def yaml_values(text: str, where: str) -> list[Any]:
    """The values of a list such as `1e-4, 3e-4` or `[q_proj], all-linear`, each in YAML.

    Raises:
        RecipeError: it is no list of values.
    """
    try:
        values = _plain(_yaml().load(f"[{text}]"))
    except YAMLError:
        values = None
    if not isinstance(values, list) or not values or None in values:
        raise RecipeError(where, f"{text} is no list of values.", "Separate them by commas.")
    return values


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every setting written out."""
    stream = io.StringIO()
    _yaml().dump(_quoted(recipe.model_dump(mode="json")), stream)
    return stream.getvalue()


def _quoted(value: Any) -> Any:
    """The value with texts of unprintable characters in double quotes, where escapes keep them."""
    if isinstance(value, dict):
        return {name: _quoted(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_quoted(child) for child in value]
    if isinstance(value, str) and not value.isprintable():
        return DoubleQuotedScalarString(value)
    return value


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.version = None
    yaml.allow_duplicate_keys = False
    yaml.width = 100
    return yaml


def _read(path: Path, run_folder: Path | None) -> str:
    if not path.is_file():
        where, what = str(run_folder or path), "there is no such recipe"
        if run_folder is not None:
            what = f"this folder holds no {RECIPE_NAME}"
        remedy = "Write one from your data with: burnish new DATAFILE"
        nearby = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, [p.name for p in nearby], n=1)
        if close:
            remedy = f"Did you mean {path.with_name(close[0])}?"
        raise RecipeError(where, f"{what}.", remedy)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = _remedy(path.name, "Save the recipe as UTF-8.")
        raise RecipeError(path.name, f"byte {error.start} is not UTF-8.", remedy) from None


def _remedy(name: str, usual: str) -> str:
    """What to do about a file that is no recipe; one of data may have been meant as data."""
    from burnish.reading.files import READERS  # loads the readers of every kind of file

    if Path(name).suffix.lower() in READERS:
        return "If this is your data, write a recipe for it with: burnish new DATAFILE"
    return usual


def _parse(text: str, name: str) -> CommentedMap:
    try:
        tree = _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = (error.problem or str(error)).splitlines()[0].removeprefix("but ")
        remedy = _remedy(name, "Check indentation, colons and quotes.")
        raise RecipeError(where, f"this is not YAML: {problem}.", remedy) from None
    except YAMLError as error:
        problem = str(error).splitlines()[0]
        raise RecipeError(name, f"this is not YAML: {problem}.", _remedy(name, "")) from None
    if not isinstance(tree, CommentedMap):
        found = "nothing" if tree is None else type(tree).__name__
        raise RecipeError(
            name,
            f"a recipe is a list of sections; found {found}.",
            _remedy(name, "Begin with `data:` and a list of sources; see docs/recipe.md."),
        )
    return tree


def _apply_override(tree: CommentedMap, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise RecipeError(
            f"--set {override}",
            "a setting has the form section.key=value.",
            "For example: --set train.learning_rate=1e-4",
        )
    try:
        value = _yaml().load(text) if text.strip() else ""
    except YAMLError as error:
        problem = str(error).splitlines()[0]
        raise RecipeError(f"--set {override}", f"the value is not YAML: {problem}.", "") from None
    path = _path_of(key.strip())
    node: Any = tree
    for step, following in itertools.pairwise(path):
        node = _child(node, step, following, override)
    _assign(node, path[-1], value, override)


def _path_of(key: str) -> Location:
    parts = key.replace("[", ".").replace("]", "").split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _child(node: Any, step: str | int, following: str | int, override: str) -> Any:
    empty: Any = CommentedSeq() if isinstance(following, int) else CommentedMap()
    if isinstance(node, dict) and isinstance(step, str):
        if node.get(step) is None:
            node[step] = empty
        return node[step]
    if isinstance(node, list) and isinstance(step, int) and step <= len(node):
        if step == len(node):
            node.append(empty)
        return node[step]
    raise RecipeError(f"--set {override}", f"{step} has no place there.", "See docs/recipe.md.")


def _assign(node: Any, last: str | int, value: Any, override: str) -> None:
    if isinstance(node, dict) and isinstance(last, str):
        node[last] = value
    elif isinstance(node, list) and isinstance(last, int) and last <= len(node):
        node[last : last + 1] = [value]
    else:
        raise RecipeError(f"--set {override}", f"{last} has no place there.", "See docs/recipe.md.")


def _plain(value: Any) -> Any:
    """The tree as plain Python values, so that strict validation sees str, int, float and bool."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if isinstance(value, ScalarBoolean):  # a boolean with an anchor; a kind of int
        return bool(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _recipe_error(
    error: ValidationError, tree: CommentedMap, name: str, overrides: Sequence[str]
) -> RecipeError:
    detail = min(error.errors(include_url=False), key=_order)
    location = _real_location(tree, detail["loc"])
    dotted = _dotted(location)
    where = _override_at(location, overrides) or f"{name}:{_line(tree, location)}"
    if detail["type"] == "extra_forbidden":
        return RecipeError(
            where, f"{dotted}: there is no such setting.{_did_you_mean(location)}", ""
        )
    if detail["type"] == "missing":
        return RecipeError(
            where, f"{dotted}: this setting is required and absent.", "See docs/recipe.md."
        )
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return RecipeError(where, f"{dotted}: {message}" if location else message, "")
    found = detail["input"]
    lowered = message[:1].lower() + message[1:]
    return RecipeError(
        where, f"{dotted}: {lowered}; found {found!r} ({type(found).__name__}).", _help(location)
    )


def _override_at(location: Location, overrides: Sequence[str]) -> str | None:
    """The last --set that gave the value at a place, or a value around it."""
    for override in reversed(overrides):
        path = _path_of(override.partition("=")[0].strip())
        if location[: len(path)] == path:
            return f"--set {override}"
    return None


def _order(detail: Any) -> tuple[bool, int]:
    """Unknown keys first: a misspelt key also makes the right one missing."""
    return (detail["type"] != "extra_forbidden", -len(detail["loc"]))


def _real_location(tree: Any, location: Location) -> Location:
    """Pydantic's location without the names of union members, which are no keys of the file."""
    real: list[str | int] = []
    node = tree
    for index, step in enumerate(location):
        is_absent = index == len(location) - 1 and step not in ("str", "list[str]")
        if isinstance(node, dict) and (step in node or is_absent):
            real.append(step)
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            real.append(step)
            node = node[step]
    return tuple(real)


def _dotted(location: Location) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") or "recipe"


def _line(tree: CommentedMap, location: Location) -> int:
    node: Any = tree
    line = 0
    for step in location:
        if not isinstance(node, CommentedMap | CommentedSeq):
            break
        try:
            line = node.lc.key(step)[0] if isinstance(node, CommentedMap) else node.lc.item(step)[0]
        except (KeyError, AttributeError, TypeError, IndexError):
            break
        node = node[step]
    return line + 1


def _did_you_mean(location: Location) -> str:
    section = section_at(location[:-1])
    wrong = str(location[-1])
    names = list(section.model_fields) if section else []
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]}?"
    for dotted in all_settings():
        before, found, _ = f"{dotted}.".partition(f".{wrong}.")
        if found:
            return f" Did you mean {before}.{wrong}?"
    return f" The settings here are {', '.join(names)}."


def _help(location: Location) -> str:
    section = section_at(location[:-1])
    field = section.model_fields.get(str(location[-1])) if section and location else None
    return " ".join(field.description.split()) if field and field.description else ""
