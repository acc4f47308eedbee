"""Where rows come from: a file, a folder with splits, the hub, a table in memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprompt.data.arrow import saved_rows
from autoprompt.data.cells import Row
from autoprompt.data.hub import HUB, hub_tables
from autoprompt.data.options import Frame, Source
from autoprompt.data.rows import SUFFIXES, read_rows
from autoprompt.errors import DataError

__all__ = ["read_tables"]

_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"  # of `datasets`
_FILES = re.compile(r"(train|test|dev|validation|valid(?![a-z])|val(?![a-z]))", re.IGNORECASE)
_DEV = {"validation", "valid", "val", "eval"}


def read_tables(source: Source, offline: bool | None = None) -> dict[str, list[Row]]:
    """The rows of a source by split: of train, dev and test, or of "" where it has none.

    source: a file; a folder that `datasets` has saved, or with files named train*, dev* or validation*, test*;
    "hf:NAME", "hf:NAME/CONFIG" or "hf:NAME/CONFIG:SPLIT" of the hub; a table in memory. offline: take a hub name
    from the cache alone. Raises DataError when it is missing, empty or broken.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return _split(hub_tables(source, offline), source)
    if isinstance(source, str | Path):
        path = Path(source)
        is_folder = path.is_dir() and path.suffix.lower() not in SUFFIXES
        return _folder(path) if is_folder else {"": read_rows(path)}
    return {"": _frame(source)}


def _split(tables: Mapping[str, list[Row]], what: str) -> dict[str, list[Row]]:
    """Tables by the names of our splits; others are left out."""
    if set(tables) == {""}:
        return dict(tables)
    found: dict[str, list[Row]] = {}
    for name, rows in tables.items():
        own = "dev" if name.lower() in _DEV else name.lower()
        if own in ("train", "dev", "test") and rows:
            found[own] = [*found.get(own, []), *rows]
    if not found:
        raise DataError(
            f"{what} has the splits {', '.join(tables) or 'none'}; needed is train, with validation (or dev) and test."
        )
    return found


# -- folders -------------------------------------------------------------------------------------


def _folder(folder: Path) -> dict[str, list[Row]]:
    try:
        if (folder / _SAVED_SPLITS).is_file():
            names = _saved_splits(folder / _SAVED_SPLITS)
            return _split({name: saved_rows(folder / name) for name in names}, str(folder))
        if (folder / _SAVED).is_file():
            return {"": _filled(saved_rows(folder), folder)}
        return _split(_files(folder), str(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from None


def _saved_splits(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["splits"]
    except (ValueError, LookupError, TypeError, RecursionError):
        names = None
    if not isinstance(names, list) or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise DataError(f"{path} names no splits; save the data set again with save_to_disk.")
    return names


def _files(folder: Path) -> dict[str, list[Row]]:
    """The rows of the files whose names say of which split they are, here or in `data`; parts by their names."""
    for place in (folder, folder / "data"):
        paths = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES) if place.is_dir() else []
        found: dict[str, list[Row]] = {}
        for path in paths:
            match = _FILES.match(path.name)
            if match and path.is_file():
                found.setdefault(match[1].lower(), []).extend(read_rows(path))
        if found:
            return found
    raise DataError(
        f"{folder} is a folder without files named train*, dev* (or validation*) and test* that end in "
        f"{', '.join(SUFFIXES)}; name a file, or give the files such names."
    )


def _filled(rows: list[Row], what: object) -> list[Row]:
    if not rows:
        raise DataError(f"{what} holds no examples.")
    return rows


# -- tables in memory ----------------------------------------------------------------------------


def _frame(frame: Frame) -> list[Row]:
    """The rows of a DataFrame, by what it can do, so that no package of such is needed here."""
    try:
        records = frame.to_dict("records")
    except (TypeError, ValueError) as error:
        raise DataError(f"The table gives no rows by to_dict('records'): {error}.") from None
    if not isinstance(records, list) or not all(isinstance(row, Mapping) for row in records):
        raise DataError(f"The table's to_dict('records') is {type(records).__name__}; a list of mappings is needed.")
    rows: list[Row] = [
        (f"The table, row {number}", {str(key): _plain(value) for key, value in row.items()})
        for number, row in enumerate(records, 1)
    ]
    return _filled(rows, "The table")


def _plain(value: Any) -> Any:
    """A value without the types of numpy and pandas; None for what is missing."""
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        value = value.tolist()
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
