"""What the target column of a row means: a class, several, an option, a number, or a written text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autoprompt.data.cells import Row, cell, short, text_of, whole
from autoprompt.data.choices import Answer, Reader, option_reader
from autoprompt.data.options import DataOptions
from autoprompt.errors import DataError

__all__ = ["NO_LABELS", "number_text", "single_labels", "target_reader"]

NO_LABELS = "none"  # the target of an example to which none of the labels applies
_SEPARATORS = (";", "|", ",")


def target_reader(rows: Sequence[Row], options: DataOptions) -> Reader:
    """What makes a row's target of it: (where it stands, its columns) → its label and references.

    rows: all of the data set's, for what must mean the same in each. The reader raises DataError, with the place.
    """
    column = options.column(options.label)
    if options.target == "option":
        return option_reader(rows, options)
    if options.target == "labels":
        separator = _separator(rows, column)
        return lambda place, row: Answer(_labels(place, row, column, separator))
    if options.target == "number":
        return lambda place, row: Answer(_number(place, row, column))
    if options.target == "text":
        return lambda place, row: _texts(place, row, column)
    if options.target == "program":
        return lambda place, row: _texts(place, row, column, program=True)
    return lambda place, row: Answer(text_of(place, row, column))


# -- several labels ------------------------------------------------------------------------------


def single_labels(label: str) -> list[str]:
    """The labels that the target of an example with several holds."""
    return [] if label == NO_LABELS else label.split(", ")


def _separator(rows: Sequence[Row], column: str) -> str:
    """What parts the labels of a text: the same in all rows."""
    texts = [value for _, row in rows if isinstance(value := row.get(column), str)]
    return next((mark for mark in _SEPARATORS if any(mark in text for text in texts)), _SEPARATORS[0])


def _labels(place: str, row: Mapping[str, Any], column: str, separator: str) -> str:
    value = cell(place, row, column)
    if isinstance(value, str):
        value = value.split(separator)
    if not isinstance(value, list) or not all(
        isinstance(one, str | int) and not isinstance(one, bool) for one in value
    ):
        raise DataError(
            f"{place}: column {column!r} is {short(value)}; a list of labels is needed, or a text of labels "
            "parted by ';', '|' or ','. A row without any has an empty list."
        )
    found = sorted({text for one in value if (text := whole(str(one)).strip())})
    if found == [NO_LABELS]:
        return NO_LABELS
    if NO_LABELS in found:
        raise DataError(
            f"{place}: column {column!r} has {NO_LABELS!r} beside other labels; it means that there are none."
        )
    comma = next((one for one in found if "," in one), None)
    if comma is not None:
        raise DataError(f"{place}: the label {short(comma)} holds a comma, which parts labels. Rename it.")
    return ", ".join(found) or NO_LABELS


# -- numbers -------------------------------------------------------------------------------------


def number_text(value: object) -> str | None:
    """The shortest text of a finite number or of a text of one ("3.80" → "3.8", 5.0 → "5"), else None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    if isinstance(value, int) or re.fullmatch(r"\s*[+-]?\d+\s*", str(value)):
        return str(int(value))  # to its last digit
    return str(int(number)) if number.is_integer() and abs(number) < 1e16 else repr(number)


def _number(place: str, row: Mapping[str, Any], column: str) -> str:
    value = cell(place, row, column)
    found = number_text(value)
    if found is None:
        raise DataError(f"{place}: column {column!r} is {short(value)}; a finite number is needed, such as 3.8 or 5.")
    return found


# -- written texts -------------------------------------------------------------------------------


def _texts(place: str, row: Mapping[str, Any], column: str, program: bool = False) -> Answer:
    """A text, or the first of a list with the others as references; a program keeps its first line's indentation."""
    value = cell(place, row, column)
    given = value if isinstance(value, list) else [value]
    found: dict[str, None] = {}
    for one in given:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise DataError(
                f"{place}: column {column!r} is {short(value)}; a text is needed, or a list of texts that are right."
            )
        text = whole(str(one))
        text = _unframed(text) if program else text.strip()
        if not text:
            raise DataError(f"{place}: column {column!r} has an empty text. Fill it or remove the row.")
        found[text] = None
    if not found:
        raise DataError(f"{place}: column {column!r} is an empty list; it needs at least one text.")
    first, *others = found
    return Answer(first, tuple(others))


def _unframed(text: str) -> str:
    """The text without empty lines before it and spaces behind it."""
    lines = text.rstrip().split("\n")
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    return "\n".join(lines[first:])
