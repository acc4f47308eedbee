"""Which column is the answer, and what that is: one of the row's options, labels, a number, or a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from autoprompt.data import Target
from autoprompt.data.choices import choices_of
from autoprompt.data.targets import NO_LABELS
from autoprompt.errors import DataError, nearest
from autoprompt.init.columns import Column
from autoprompt.init.guess import Guess

__all__ = ["TESTS", "guess_column", "guess_target"]

# names of targets, the surest first
_NAMES = (
    "label_text", "label_name", "label", "labels", "target", "class", "category", "intent", "sentiment", "answer",
    "answers", "score", "rating", "stars", "tags", "topics", "topic", "gold", "summary", "headline", "translation",
    "response", "reply", "completion", "output", "result", "solution", "code", "program", "y",
)  # fmt: skip
_SCALES = ("score", "rating", "stars", "similarity", "grade", "points", "rank", "quality", "alike")
_PLURAL = ("labels", "tags", "topics", "genres", "categories", "emotions", "classes")
_OPTIONS = re.compile(r"option|choice|candidate|ending|alternative", re.IGNORECASE)
TESTS = ("tests", "test_list")
_SPLITS = {"train", "dev", "test"}

# -- which column ----------------------------------------------------------------------------------


def guess_column(columns: Sequence[Column], told: str | None = None) -> Guess:
    """The column of the answer: by the options of the rows, by its name, by few different values, or the last.

    Raises DataError where a column that was told is not there, or none can be the answer.
    """
    if told is not None:
        names = [column.name for column in columns]
        if told not in names:
            raise DataError(f"There is no column {told!r}; it has {', '.join(names)}.{nearest(told, names)}")
        return Guess(told).because("label", "as told")
    usable = [column for column in columns if not column.where and not _parts(column)]
    for options in usable:
        found = [column.name for column in _by_name(usable) if _chooses(column, options) is not None]
        if found:
            return Guess(found[0]).because("label", f"it holds one of {options.name!r}")
    named = [column for column in _by_name(usable) if _rank(column) < len(_NAMES)]
    if named:
        return Guess(named[0].name).because("label", "by its name")
    few = [column for column in usable if column.is_plain and column.repeats()]
    if few:
        return Guess(few[-1].name).because("label", f"it has {len(few[-1].counts)} different values")
    rest = [column for column in usable if not column.identifies]
    if not rest:
        raise DataError("No column is filled in every row, so none can be the answer. Fill one, or remove rows.")
    return Guess(rest[-1].name).because("label", "it is the last column")


def _by_name(columns: Sequence[Column]) -> list[Column]:
    return sorted(columns, key=_rank)


def _rank(column: Column) -> int:
    name = column.name.casefold().replace(" ", "_")
    return _NAMES.index(name) if name in _NAMES else len(_NAMES)


def _parts(column: Column) -> bool:
    """Whether it says to which split a row belongs."""
    return column.name.casefold() == "split" and set(column.counts) == _SPLITS


# -- which options ---------------------------------------------------------------------------------


def _chooses(column: Column, options: Column) -> int | None:
    """The index of the first option where each cell of the column is one of its row's options; None where not."""
    if column is options or not column.is_plain or options.where or not _may_be_options(options):
        return None
    for first in (0, 1):
        if all(_chosen(cell, shown, first) for cell, shown in zip(column.cells, options.cells, strict=True)):
            return first
    return None


def _may_be_options(column: Column) -> bool:
    if not all(isinstance(cell, list | dict) for cell in column.cells) and not _OPTIONS.search(column.name):
        return False  # texts of several lines are options only where they are called so
    try:
        return all(choices_of("", {"": cell}, "") is not None for cell in column.cells)
    except DataError:
        return False


def _chosen(cell: object, shown: object, first: int) -> bool:
    choices = choices_of("", {"": shown}, "")
    by = (choices.by_text(cell), choices.by_letter(cell)) if first == 0 else ()
    return any(at is not None for at in (*by, choices.by_index(cell, first)))


# -- what it is ------------------------------------------------------------------------------------


def guess_target(guess: Guess, columns: Sequence[Column], told: Target | None = None) -> Guess:
    """What the answer is: an option, several labels, a number, one label, or a text.

    Raises DataError where it is told to be an option and no column has options.
    """
    label = next(column for column in columns if column.name == guess.label)
    split = next((column.name for column in columns if _parts(column) and column is not label), None)
    guess = replace(guess, split=split, anchored=_is_scale(label), options=None, first_option=0, aside=())
    options = [(c.name, first) for c in columns if (first := _chooses(label, c)) is not None]
    if told is not None:
        guess = replace(guess, target=told).because("target", "as told")
    else:
        target, reason = _kind(label, bool(options))
        guess = replace(guess, target=target).because("target", reason)
    if guess.target == "option":
        if not options:
            raise DataError(
                f"No column has options of which {guess.label!r} is one; with the target option each row needs a list "
                "of them, and the answer as its text, its letter or its index. Give another target."
            )
        guess = replace(guess, options=options[0][0], first_option=options[0][1])
    if guess.target == "program":
        return replace(guess, aside=tuple(c.name for c in columns if c.name in TESTS and c is not label)[:1])
    return guess


def _kind(label: Column, has_options: bool) -> tuple[Target, str]:
    if has_options:
        return "option", "each row has its own to choose from"
    singles = _singles(label)
    if singles:
        return "labels", f"lists of {len(set(singles))} different labels"
    if label.is_list:
        return "text", "lists of texts, all of them right"
    if label.numbers and (_is_scale(label) or not _are_classes(label)):
        return "number", f"numbers from {min(label.numbers):g} to {max(label.numbers):g}"
    if _are_classes(label):
        return "label", f"{len(label.counts)} different values in {len(label.texts)} rows"
    return "text", f"{len(label.counts)} different texts of {label.words:g} words in the middle"


def _singles(label: Column) -> list[str]:
    """The labels of all rows, where these are sets of a few."""
    if label.is_list:
        found = [str(one).strip() for cell in label.cells for one in cell]
    elif label.name.casefold() in _PLURAL and all(isinstance(cell, str) for cell in label.cells):
        mark = next((mark for mark in ";|," if any(mark in text for text in label.texts)), None)
        found = [] if mark is None else [one.strip() for text in label.texts for one in text.split(mark)]
    else:
        return []
    found = [one for one in found if one and one != NO_LABELS]
    few = 2 <= len(set(found)) <= len(found) / 3 and not any("," in one for one in found)
    return found if few else []


def _is_scale(label: Column) -> bool:
    """Whether its numbers lie on a short scale, so that words can stand for its ends."""
    if len(set(label.numbers)) < 3:
        return False
    named = any(part in label.name.casefold() for part in _SCALES)
    broken = any(not number.is_integer() for number in label.numbers)
    return named or (broken and max(label.numbers) - min(label.numbers) <= 10)


def _are_classes(label: Column) -> bool:
    return label.is_plain and label.repeats() and label.words <= 6 and all(len(text) <= 80 for text in label.counts)
