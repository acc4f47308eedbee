"""The columns of one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprompt.errors import DataError, nearest

__all__ = ["Row", "cell", "fields_of", "short", "text_of", "whole"]

Row = tuple[str, Mapping[str, Any]]  # (where it stands, its columns)


def cell(place: str, row: Mapping[str, Any], column: str) -> Any:
    """What stands in a column. Raises DataError, with the place, when the row lacks it."""
    if column not in row:
        names = ", ".join(map(str, row)) or "none"
        raise DataError(f"{place}: there is no column {column!r}; it has {names}.{nearest(column, map(str, row))}")
    return row[column]


def text_of(place: str, row: Mapping[str, Any], column: str) -> str:
    """The text or number of a column as text, not empty. Raises DataError, with the place."""
    value = cell(place, row, column)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{place}: column {column!r} is {short(value)}; a text or a number is needed.")
    text = str(value).strip()
    if not text:
        raise DataError(f"{place}: column {column!r} is empty. Fill it or remove the row.")
    return whole(text)


def whole(text: str) -> str:
    """The text with a question mark for each half of a character, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def short(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    return repr(value)[:60]


def fields_of(place: str, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """The texts of some columns of a row. Raises DataError, with the place, when it lacks one."""
    missing = [name for name in names if row.get(name) is None]
    if missing:
        raise DataError(
            f"{place}: there is no column {missing[0]!r}; it has {', '.join(row)}.{nearest(missing[0], row)}"
        )
    return {name: whole(_shown(row[name]).strip()) for name in names}


def _shown(value: object) -> str:
    """A value as text; options, a list or an object that holds one as `text`, one a line."""
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        value = value["text"]
    if isinstance(value, list) and value and all(isinstance(one, str | int | float) for one in value):
        return "\n".join(" ".join(str(one).splitlines()) for one in value)
    return str(value)
