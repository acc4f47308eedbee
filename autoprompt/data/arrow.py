"""Tables of Arrow and Parquet, and the folders that `datasets` saves, as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from autoprompt.data.cells import Row
from autoprompt.errors import DataError

__all__ = ["class_names", "missing_package", "parquet_rows", "saved_rows", "table_rows"]

_INFO, _STATE = "dataset_info.json", "state.json"

Names = Mapping[str, list[str]]


def missing_package(what: str, package: str) -> str:
    """What is said of a source whose package is not installed."""
    return f"{what} is read by {package}, which is not installed: pip install 'autoprompt-search[data]'"


def parquet_rows(path: Path) -> list[Row]:
    """The rows of a Parquet file. Raises DataError."""
    arrow = _arrow(path)

    def read() -> Any:
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            return file.read()

    return _rows(arrow, path, read, {})


def saved_rows(folder: Path) -> list[Row]:
    """The rows of a data set that `datasets` has saved with `save_to_disk`. Raises DataError."""
    arrow = _arrow(folder)
    state, info = _object(folder / _STATE), _object(folder / _INFO)
    files = state.get("_data_files")
    names = [one.get("filename") if isinstance(one, dict) else None for one in files] if isinstance(files, list) else []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise DataError(f"{folder / _STATE} names no files of the folder; save the data set again with save_to_disk.")
    rows = []
    for name in names:
        path = folder / str(name)

        def read(path: Path = path) -> Any:
            with arrow.OSFile(str(path)) as file, arrow.ipc.open_stream(file) as stream:
                return stream.read_all()

        rows += _rows(arrow, path, read, class_names(info.get("features")), start=len(rows), name=folder.name)
    return rows


def table_rows(table: Any, name: str, names: Names, start: int = 0) -> list[Row]:
    """The rows of an Arrow table; names: of the classes, by column, which stand for their numbers."""
    rows: list[Row] = []
    for number, row in enumerate(table.to_pylist(), start + 1):
        rows.append((f"{name}, row {number}", {key: _named(value, names.get(key)) for key, value in row.items()}))
    return rows


def class_names(features: object) -> dict[str, list[str]]:
    """The names of the classes, by column, of what `datasets` says of columns."""
    found = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        while isinstance(feature, Mapping) and isinstance(feature.get("feature"), Mapping):
            feature = feature["feature"]
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[str(column)] = names
    return found


def _arrow(path: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise DataError(missing_package(str(path), "pyarrow")) from None
    return pyarrow


def _rows(
    arrow: ModuleType, path: Path, read: Callable[[], Any], names: Names, start: int = 0, name: str = ""
) -> list[Row]:
    try:
        table = read()
        told = (table.schema.metadata or {}).get(b"huggingface")
        own = class_names(json.loads(told)["info"]["features"]) if told else {}
        return table_rows(table, name or path.name, {**own, **names}, start)
    except (arrow.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as a table: {told[:200]}") from None


def _named(value: Any, names: list[str] | None) -> Any:
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if known else value


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the data set again with save_to_disk.") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} is no JSON object; save the data set again with save_to_disk.")
    return value
