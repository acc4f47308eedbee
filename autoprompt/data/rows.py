"""The rows of a file, each with the place it stands at."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from autoprompt.data.arrow import parquet_rows
from autoprompt.data.cells import Row
from autoprompt.errors import DataError, nearest

__all__ = ["SUFFIXES", "read_rows"]

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL, JSON, CSV, TSV or Parquet file, each with the place it stands at.

    Raises DataError when the file is missing, empty, not UTF-8, or not of its format.
    """
    if not path.exists():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"There is no data file {path}.{near}")
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        allowed = ", ".join(SUFFIXES[:-1])
        raise DataError(f"{path} ends in {path.suffix!r}; data files are {allowed} or {SUFFIXES[-1]}.")
    if kind == ".parquet":
        rows = parquet_rows(path)
    elif kind == ".json":
        rows = _json(path, _read(path))
    else:
        rows = _jsonl(path, _read(path)) if kind == ".jsonl" else _csv(path, _read(path))
    if not rows:
        raise DataError(
            f"{path} holds no examples" + ("." if kind in (".json", ".parquet") else "; it needs one a line.")
        )
    return rows


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}). Save it as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _json(path: Path, text: str) -> list[Row]:
    """A list of objects, or the one list that an object holds."""
    needed = "it needs a list of objects, or an object with one such list"
    if not text.strip():
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); {needed}. With one object a line it is .jsonl.") from None
    if isinstance(value, dict):
        lists = [name for name, held in value.items() if isinstance(held, list)]
        if len(lists) != 1:
            raise DataError(f"{path} is an object with {len(lists)} lists ({', '.join(lists[:5])}); {needed}.")
        value = value[lists[0]]
    if not isinstance(value, list):
        raise DataError(f"{path} is {type(value).__name__}; {needed}.")
    rows: list[Row] = []
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number} is {type(row).__name__}; {needed}.")
        rows.append((f"{path.name}, row {number}", row))
    return rows


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
