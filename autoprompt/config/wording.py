"""A malformed key in words: which one, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from autoprompt.config.sections import Config
from autoprompt.errors import nearest

__all__ = ["problem", "short"]


def problem(error: dict[str, Any], values: Mapping[str, Any]) -> str:
    """One line: the key, what was given, what is allowed."""
    path = [str(part) for part in error["loc"]]
    if path[0] == "metric":  # a text or a table: which of them is no key
        del path[1:2]
    key, given = ".".join(path), short(error["input"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys(path[:-1])
        return f"{key} is not a key here; allowed are {', '.join(allowed)}.{nearest(path[-1], allowed)}"
    if kind == "missing":
        return f"{key} is missing; it is required.{_hint(path, values)}"
    if kind == "literal_error":
        near = nearest(str(error["input"]), _choices(context["expected"]))
        return f"{key} is {given}; allowed are {context['expected']}.{near}"
    if kind == "string_pattern_mismatch":
        return f"{key} is {given}; allowed are letters, digits, '.', '_' and '-', up to 100, no leading dot."
    limits = {
        "greater_than_equal": "at least",
        "greater_than": "more than",
        "less_than_equal": "at most",
        "less_than": "less than",
    }
    if kind in limits:
        bound = next(iter(context.values()))
        return f"{key} is {given}; it must be {limits[kind]} {bound}."
    if kind in {"too_short", "string_too_short"}:
        return f"{key} is empty or too short; it needs at least {context.get('min_length', 1)}."
    return f"{key} is {given}; {error['msg'][:1].lower() + error['msg'][1:]}."


def _choices(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def short(value: object) -> str:
    """A value as it would be written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys(path: Sequence[str]) -> list[str]:
    """The allowed keys of a section."""
    section: Any = Config
    for part in path:
        if not part.isdigit():
            field = section.model_fields[part]
            kinds = [k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type)]
            section = next(k for k in kinds if issubclass(k, BaseModel))
    return sorted(section.model_fields)


def _hint(path: Sequence[str], values: Mapping[str, Any]) -> str:
    found: Any = values
    for part in path[:-1]:
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return nearest(path[-1], map(str, found)) if isinstance(found, Mapping) else ""
