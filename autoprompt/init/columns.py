"""What stands in the columns of a data file."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from autoprompt.data.cells import Row
from autoprompt.data.targets import number_text
from autoprompt.errors import DataError

__all__ = ["Column", "columns_of", "field_name"]

_IDENTIFIERS = re.compile(r"(?:.*_)?(?:id|idx|index|uuid|guid|key|number|nr)", re.IGNORECASE)
# what a name means to a template itself
_RESERVED = {"label", "instruction", "loop", "self", "true", "false", "none", "not", "and", "or", "is", "in", "if"}


@dataclass(frozen=True)
class Column:
    """The cells of a column, in the order of the rows. where: the first row that has none, or an empty one."""

    name: str
    cells: tuple[Any, ...]
    where: str = ""

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Each cell as text."""
        return tuple(str(cell).strip() for cell in self.cells)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each text stands there."""
        return Counter(self.texts)

    @property
    def is_plain(self) -> bool:
        """Whether each cell is a text or a number, which a prompt can show."""
        return not self.where and not any(
            isinstance(c, bool) or not isinstance(c, str | int | float) for c in self.cells
        )

    @property
    def is_list(self) -> bool:
        return not self.where and all(isinstance(cell, list) for cell in self.cells)

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The cells as numbers; none where one is no number."""
        found = [number_text(cell) for cell in self.cells]
        return tuple(float(text) for text in found if text is not None) if None not in found else ()

    @cached_property
    def singles(self) -> tuple[str, ...]:
        """Each text, those of lists one by one."""
        parts = [cell if isinstance(cell, list) else [cell] for cell in self.cells]
        return tuple(str(one).strip() for several in parts for one in several)

    @property
    def words(self) -> float:
        """The median number of words of a text."""
        return median(len(text.split()) for text in self.singles or ("",))

    @property
    def longest(self) -> int:
        """The characters of the longest text."""
        return max(map(len, self.singles), default=0)

    @property
    def identifies(self) -> bool:
        """Whether it counts or names the rows, and says nothing of them."""
        different = len(self.counts) == len(self.texts)
        return different and bool(_IDENTIFIERS.fullmatch(self.name)) and self.words <= 1

    def repeats(self, least: float = 3) -> bool:
        """Whether there are several different texts, and each stands there `least` times in the mean."""
        return 2 <= len(self.counts) <= len(self.texts) / least


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns, in the order in which they first stand in a row."""
    names = dict.fromkeys(str(name) for _, row in rows for name in row)
    return [_column(name, rows) for name in names]


def _column(name: str, rows: Sequence[Row]) -> Column:
    where = next((place for place, row in rows if _is_empty(row, name)), "")
    return Column(name, tuple(row.get(name) for _, row in rows), where)


def _is_empty(row: Mapping[str, Any], name: str) -> bool:
    cell = row.get(name)
    return cell is None or (isinstance(cell, str) and not cell.strip())


def field_name(column: str, taken: Sequence[str] = ()) -> str:
    """A name under which a template can show a column. Raises DataError where too many would be the same."""
    name = re.sub(r"\W+", "_", column).strip("_") or "field"
    if name.lower() in _RESERVED or keyword.iskeyword(name) or not name.isidentifier():
        name = f"column_{name}"
    for ending in ["", *(f"_{number}" for number in range(2, 1000))]:
        if name + ending not in taken:
            return name + ending
    raise DataError(f"The column {column!r} has the name of a thousand others. Rename it.")
