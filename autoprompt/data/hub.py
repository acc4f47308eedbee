"""Data sets of the Hugging Face hub, by the package `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from autoprompt.data.arrow import missing_package, table_rows
from autoprompt.data.cells import Row
from autoprompt.errors import DataError

__all__ = ["HUB", "hub_tables"]

HUB = "hf:"  # what such names begin with


def hub_tables(source: str, offline: bool | None = None) -> dict[str, list[Row]]:
    """The rows of each split of "hf:NAME", "hf:NAME/CONFIG" or, of one split alone, "hf:NAME/CONFIG:SPLIT".

    Of NAME with a slash, OWNER/NAME is tried before NAME/CONFIG. offline: from the cache alone. Columns of classes
    have the classes' names. Raises DataError when it cannot be loaded.
    """
    library = _datasets(source)
    name, _, split = source.removeprefix(HUB).partition(":")
    with _quiet(library, bool(offline)):
        found = _loaded(library, source, _readings(name), split or None)
        if split:
            return {"": _rows(found, f"{name}:{split}")}
        return {part: _rows(found[part], f"{name}:{part}") for part in found}


def _readings(name: str) -> list[tuple[str, str | None]]:
    """The data set and its configuration that a name may mean."""
    parts = name.split("/")
    if len(parts) > 2:
        return [("/".join(parts[:2]), "/".join(parts[2:]))]
    return [(name, None)] if len(parts) == 1 else [(name, None), (parts[0], parts[1])]


def _datasets(source: str) -> ModuleType:
    try:
        import datasets
    except ImportError:
        raise DataError(missing_package(source, "the package datasets")) from None
    return datasets


@contextmanager
def _quiet(library: ModuleType, offline: bool) -> Iterator[None]:
    """Without bars on the screen; offline, without the network, which the package asks of its settings alone."""
    shown, before = not library.are_progress_bars_disabled(), library.config.HF_HUB_OFFLINE
    library.disable_progress_bars()
    library.config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before
        if shown:
            library.enable_progress_bars()


def _loaded(library: ModuleType, source: str, readings: list[tuple[str, str | None]], split: str | None) -> Any:
    told = ""
    for name, configuration in readings:
        if Path(name).exists():
            raise DataError(f"{source}: there is a file or folder {name} here, which would be read; name it as a file.")
        try:
            return library.load_dataset(name, configuration, split=split)
        except Exception as error:  # the libraries raise many kinds for a data set that is not there or broken
            told = told or (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise DataError(
        f"{source} cannot be loaded: {told[:300]} Names are hf:NAME or hf:NAME/CONFIG as on the hub; "
        "offline they are taken from the cache alone, and [model] offline = true has it so."
    )


def _rows(data: Any, name: str) -> list[Row]:
    kinds = {column: _innermost(feature) for column, feature in data.features.items()}
    names = {column: list(kind.names) for column, kind in kinds.items() if kind is not None}
    return table_rows(data.with_format("arrow")[:], name, names)


def _innermost(feature: Any) -> Any:
    """The classes of a column, or of the lists in it, or None."""
    while getattr(feature, "feature", None) is not None:
        feature = feature.feature
    return feature if isinstance(getattr(feature, "names", None), list) else None
