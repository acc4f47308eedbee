"""The options of an example of its own, and which of them its target is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from autoprompt.data.cells import Row, cell, short, text_of, whole
from autoprompt.data.options import DataOptions
from autoprompt.errors import DataError

__all__ = ["Answer", "Choices", "Reader", "choices_of", "option_reader"]

_NEWLINES = re.compile(r"\s*[\r\n]\s*")
_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


@dataclass(frozen=True)
class Answer:
    """The target of a row."""

    label: str
    references: tuple[str, ...] = ()


Reader = Callable[[str, Mapping[str, Any]], Answer]


@dataclass(frozen=True)
class Choices:
    """The options of a row, one line each; names: what the row itself calls them, where it does."""

    texts: tuple[str, ...]
    names: tuple[str, ...] = ()

    def by_text(self, value: object) -> int | None:
        line = _line(value)
        return self.texts.index(line) if line in self.texts else None

    def by_letter(self, value: object) -> int | None:
        """By the row's own name of the option, or by its letter: "D", "(D)", "D."."""
        text = str(value).strip()
        if self.names:
            return self.names.index(text) if text in self.names else None
        match = _LETTER.fullmatch(text)
        at = ascii_uppercase.index(match[1].upper()) if match else len(self.texts)
        return at if at < len(self.texts) else None

    def by_index(self, value: object, first: int) -> int | None:
        at = _whole_number(value)
        return at - first if at is not None and first <= at < first + len(self.texts) else None


def choices_of(place: str, row: Mapping[str, Any], column: str) -> Choices:
    """The options in a column: a list of texts, an object {label: [...], text: [...]}, or a text of lines.

    Raises DataError, with the place, when there are fewer than 2, more than 26, or two that are equal.
    """
    value, names = cell(place, row, column), None
    if isinstance(value, Mapping) and "text" in value:
        value, names = value["text"], value.get("label")
    if isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, list) or not all(isinstance(one, str | int | float) for one in value):
        raise DataError(
            f"{place}: column {column!r} is {short(row[column])}; the example's options are needed: a list of texts, "
            "an object {label: [...], text: [...]}, or a text with one a line."
        )
    texts = tuple(map(_line, value))
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise DataError(
            f"{place}: column {column!r} has {len(texts)} options; allowed are 2 to {len(ascii_uppercase)}."
        )
    if "" in texts:
        raise DataError(f"{place}: column {column!r} has an empty option. Fill it or remove it.")
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise DataError(f"{place}: column {column!r} has the option {short(twice)} twice; options must differ.")
    own = tuple(str(name).strip() for name in names) if isinstance(names, list) else ()
    if own and (len(own) != len(texts) or len(set(own)) != len(own)):
        raise DataError(f"{place}: column {column!r} has {len(texts)} options, and its labels are {short(names)}.")
    return Choices(texts, own)


def option_reader(rows: Sequence[Row], options: DataOptions) -> Reader:
    """What makes the letter of the right option of a row.

    The target column has the option's text, its letter or its index, in all rows the same of these.
    """
    shown, column, first = options.column(str(options.options)), options.column(options.label), options.first_option
    seen = [found for place, row in rows if (found := _silent(place, row, shown, column)) is not None]
    kind = next((one for one in _order(seen) if all(_at(one, c, value, first) is not None for c, value in seen)), None)
    if kind is None and first == 0 and _counts_from_one(seen):
        raise DataError(
            f"Column {column!r} counts the options from 1: it is never 0, and as large as their number. "
            "If so, say data.first_option = 1."
        )

    likely = kind or max(_order(seen), key=lambda one: sum(_at(one, c, v, first) is not None for c, v in seen))

    def read(place: str, row: Mapping[str, Any]) -> Answer:
        choices = choices_of(place, row, shown)
        text_of(place, row, column)  # what is no text and no number is refused
        at = _at(likely, choices, row[column], first)
        if at is None:
            raise DataError(_refusal(place, column, row[column], choices, first))
        return Answer(ascii_uppercase[at])

    return read


def _refusal(place: str, column: str, value: object, choices: Choices, first: int) -> str:
    last = len(choices.texts) - 1
    names = ", ".join(choices.names) if choices.names else f"A to {ascii_uppercase[last]}"
    return (
        f"{place}: column {column!r} is {short(value)}; it must be one of the example's {last + 1} options: its text, "
        f"its letter ({names}) or its index ({first} to {last + first}), in all rows the same of these."
    )


def _order(seen: Sequence[tuple[Choices, object]]) -> tuple[str, ...]:
    """The meanings that the targets may have, the likeliest first."""
    if seen and all(choices.names for choices, _ in seen):
        return "letter", "text", "index"
    if all(isinstance(value, int) for _, value in seen):
        return "index", "text", "letter"
    return "text", "letter", "index"


def _at(kind: str, choices: Choices, value: object, first: int) -> int | None:
    if kind == "index":
        return choices.by_index(value, first)
    return choices.by_text(value) if kind == "text" else choices.by_letter(value)


def _counts_from_one(seen: Sequence[tuple[Choices, object]]) -> bool:
    numbers = [_whole_number(value) for _, value in seen]
    sizes = [len(choices.texts) for choices, _ in seen]
    within = all(n is not None and 1 <= n <= size for n, size in zip(numbers, sizes, strict=True))
    return within and any(n == size for n, size in zip(numbers, sizes, strict=True))


def _silent(place: str, row: Mapping[str, Any], shown: str, column: str) -> tuple[Choices, object] | None:
    """The options and the target of a row, or None where it is broken, which is told when it is read."""
    try:
        text_of(place, row, column)
        return choices_of(place, row, shown), row[column]
    except DataError:
        return None


def _line(value: object) -> str:
    return _NEWLINES.sub(" ", whole(str(value)).strip())


def _whole_number(value: object) -> int | None:
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
