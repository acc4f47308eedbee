"""Where the examples are, what their target is, and how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = ["Cut", "DataOptions", "Frame", "Source", "Target"]

Target = Literal["label", "labels", "option", "number", "text", "program"]
Cut = Literal["end", "start", "middle"]


@runtime_checkable
class Frame(Protocol):
    """A table in memory, such as a DataFrame of pandas."""

    def to_dict(self, orient: Any = ...) -> Any:
        """With "records", its rows: a list of mappings."""


Source = Path | str | Frame  # a file or folder, "hf:NAME" of the hub, or a table


@dataclass(frozen=True)
class DataOptions:
    """Where the examples are and how they are split.

    Either `file` (split by `shares`, by the column `split`, into `folds`, or as a folder's own splits are), or the
    three files `train`, `dev` and `test`. `shares` are those of train, dev and test. `columns` says which column of
    the file a field, the label, the options or something aside is read from, where it has another name.

    target: what the label is. options: of "option", the column of each example's own; first_option: the index of
    the first, where the label is an index. aside: columns for the metric alone. group: a column whose values never
    stand in two splits. folds, fold: test is the fold-th of so many, counted from 1, dev the next, train the rest.
    longest: characters of a field's text, of which `cut` says where the rest is left away. offline: what is on the
    hub is taken from the cache alone; None: as the environment says.
    """

    label: str
    fields: tuple[str, ...] = ("text",)
    file: Source | None = None
    train: Source | None = None
    dev: Source | None = None
    test: Source | None = None
    split: str | None = None
    shares: tuple[float, float, float] = (0.4, 0.3, 0.3)
    target: Target = "label"
    options: str | None = None
    first_option: Literal[0, 1] = 0
    aside: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    folds: int | None = None
    fold: int | None = None
    longest: int | None = None
    cut: Cut = "end"
    offline: bool | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The fields of an example, its options among them."""
        more = self.options is not None and self.target == "option" and self.options not in self.fields
        return (*self.fields, str(self.options)) if more else self.fields

    def column(self, name: str) -> str:
        """The column of the file that a name stands for."""
        return self.columns.get(name, name)
