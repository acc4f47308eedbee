"""Where rows come from: a file, a folder with splits, the hub, a table in memory."""

from __future__ import annotations

from pathlib import Path

from autoprompt.data.options import Source
from autoprompt.data.rows import Row, read_rows
from autoprompt.errors import DataError

__all__ = ["read_tables"]


def read_tables(source: Source, offline: bool | None = None) -> dict[str, list[Row]]:
    """The rows of a source by split: of train, dev and test, or of "" where it has none.

    Raises DataError when it is missing, empty or broken.
    """
    if isinstance(source, str | Path):
        return {"": read_rows(Path(source))}
    raise DataError("A table is given.")
