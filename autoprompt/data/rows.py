"""The rows of a file, each with the place it stands at."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoprompt.errors import DataError, nearest

__all__ = ["Row", "cell", "fields_of", "read_rows", "short", "text_of", "whole"]

Row = tuple[str, Mapping[str, Any]]  # (where it stands, its columns)


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL or CSV file, each with the place it stands at.

    Raises DataError when the file is missing, empty, not UTF-8, or not of its format.
    """
    if not path.exists():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"There is no data file {path}.{near}")
    if path.suffix.lower() not in {".jsonl", ".csv", ".tsv"}:
        raise DataError(f"{path} ends in {path.suffix!r}; data files are .jsonl, .csv or .tsv.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}). Save it as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    rows = _jsonl(path, text) if path.suffix.lower() == ".jsonl" else _csv(path, text)
    if not rows:
        raise DataError(f"{path} holds no examples; it needs one a line.")
    return rows


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


def _jsonl(path: Path, text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}). Each line is one JSON object.") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number} is {type(value).__name__}; each line is one JSON object.")
        rows.append((f"{path.name}, line {number}", value))
    return rows


def _csv(path: Path, text: str) -> list[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {reader.line_num} has not as many columns as the header "
                    f"({', '.join(reader.fieldnames or ())}). Quote fields that hold a {delimiter!r}."
                )
            rows.append((f"{path.name}, line {reader.line_num}", row))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.reader.line_num} is not CSV ({error}).") from None
    return rows


# -- the columns of a row ----------------------------------------------------------------------------


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
