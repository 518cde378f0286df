"""Every setting of a recipe by its dotted name, and what it may be in words."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from burnish.recipe import Recipe


def section_at(location: Sequence[str | int]) -> type[BaseModel] | None:
    """The section that holds the settings at a place, such as Source at ("data", "sources", 0)."""
    section: type[BaseModel] = Recipe
    for step in location:
        if isinstance(step, int):
            continue
        field = section.model_fields.get(step)
        child = nested_section(field.annotation) if field else None
        if child is None:
            return None
        section = child
    return section


def nested_section(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as `Columns | None` or `list[Source]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, Union, types.UnionType):
        return next((s for s in map(nested_section, get_args(annotation)) if s), None)
    return None


def all_settings(section: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, with pydantic's description of it."""
    settings: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        child = nested_section(field.annotation)
        if child:
            listed = get_origin(field.annotation) is list
            settings |= all_settings(child, f"{prefix}{name}{'[]' if listed else ''}.")
        else:
            settings[prefix + name] = field
    return settings


def type_name(annotation: Any) -> str:
    """An annotation in words that a YAML author knows."""
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{_yaml_word(value)}`" for value in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list of {type_name(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "names with values"
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(type_name(member) for member in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return type_name(get_args(annotation)[0])
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    words["date"] = "day"
    return words.get(getattr(annotation, "__name__", ""), str(annotation))


def _yaml_word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
