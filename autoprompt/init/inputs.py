"""Which columns a prompt shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoprompt.errors import DataError, nearest
from autoprompt.init.columns import Column
from autoprompt.init.guess import Guess
from autoprompt.init.meaning import TESTS

__all__ = ["guess_fields"]


def guess_fields(guess: Guess, columns: Sequence[Column], told: Sequence[str] = ()) -> tuple[Guess, list[str]]:
    """The inputs, and why other columns are none.

    Raises DataError where a told one is not there, or none is left.
    """
    if told:
        names = [column.name for column in columns]
        strange = next((name for name in told if name not in names), None)
        if strange is not None:
            raise DataError(f"There is no column {strange!r}; it has {', '.join(names)}.{nearest(strange, names)}")
        return replace(guess, fields=tuple(told)).because("fields", "as told"), []
    label = next(column for column in columns if column.name == guess.label)
    taken = {guess.label, guess.options, guess.split, *guess.aside}
    left = {column.name: _unfit(column, label) for column in columns if column.name not in taken}
    fields = tuple(name for name, reason in left.items() if not reason)
    notes = [f"left out: {name!r}, {reason}" for name, reason in left.items() if reason]
    if not fields:
        if len(columns) == 1:
            raise DataError(
                f"There is one column, {guess.label!r}; a prompt needs an input and its answer. "
                "Add the column of the answers (a header line names the columns of CSV)."
            )
        raise DataError(f"No column is left to show in a prompt ({'; '.join(notes)}). Name one with --fields.")
    if guess.target == "text" and any(column.name in TESTS for column in columns):
        notes.append("where these are tests of programs: --target program --metric pass@1 runs them")
    return replace(guess, fields=fields, group=_shared(guess, [c for c in columns if c.name in fields])), notes


def _shared(guess: Guess, fields: Sequence[Column]) -> str | None:
    """The text that several rows ask about: in two splits it would be a leak."""
    if guess.split is not None or len(fields) < 2:
        return None
    return next((c.name for c in fields if c.words >= 8 and 3 <= len(c.counts) <= len(c.texts) / 1.5), None)


def _unfit(column: Column, label: Column) -> str:
    """Why a column is no input, or nothing."""
    if column.where:
        return f"which is empty at {column.where}"
    if not column.is_plain:
        return "which is neither text nor number"
    if column.identifies:
        return "which only names the rows"
    if len(column.counts) == 1:
        return "which is the same in all rows"
    pairs = set(zip(column.texts, label.texts, strict=True))
    if column.repeats(2) and len(pairs) == len(column.counts) == len(label.counts):
        return "which says the answer in other words"
    return ""
