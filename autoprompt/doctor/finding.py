"""How findings are made and worded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autoprompt.events import Finding

__all__ = ["fine", "listed", "number_of", "percent", "problem", "quoted", "warning"]

_WIDTH = 60  # characters that are shown of a text
_LISTED = 20  # numbers of rows that are listed


def fine(check: str, message: str, **details: Any) -> Finding:
    """A finding that all is well."""
    return Finding(check, "fine", message, details)


def warning(check: str, message: str, **details: Any) -> Finding:
    """A finding that the user should know of."""
    return Finding(check, "warning", message, details)


def problem(check: str, message: str, **details: Any) -> Finding:
    """A finding that makes the search's result doubtful."""
    return Finding(check, "problem", message, details)


def number_of(count: int, one: str, many: str = "") -> str:
    """A count with its noun: "1 text", "1,200 texts"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def percent(part: float, whole: float = 1.0) -> str:
    """A share as "12 %", "0.4 %"; never "0 %" or "100 %" where it is not quite."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 1 or 99 < share < 100:
        return f"{min(max(share, 0.1), 99.9):.1f} %"
    return f"{share:.0f} %"


def quoted(text: str | Mapping[str, str], width: int = _WIDTH, around: int = 0) -> str:
    """A text (or an input's fields) in double quotes, on one line, cut to `width` characters, with what is not
    printable written out as Python would. `around`: a place that is to be among what is shown."""
    whole = text if isinstance(text, str) else " / ".join(text.values())
    start = max(0, around - width // 2)
    part = whole[start : start + width]
    inert = "".join(c if c.isprintable() else " " if c in "\n\r\t" else _written(c) for c in part)
    return f'"{"..." if start else ""}{inert}{"..." if start + width < len(whole) else ""}"'


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def listed(numbers: Iterable[int]) -> list[int]:
    """The first numbers in their order, as many as a record should hold."""
    return sorted({int(number) for number in numbers})[:_LISTED]
