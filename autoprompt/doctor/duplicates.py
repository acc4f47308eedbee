"""Texts that stand twice, or nearly: in a split, across splits, with another label.

Of the test split, counts are told and which train and dev rows stand in it, never a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from autoprompt.data import DataOptions, Example, Splits, folded, labelled_rows
from autoprompt.doctor.finding import fine, listed, number_of, percent, problem, quoted, warning
from autoprompt.events import Finding

__all__ = ["examine_duplicates"]

_MANY, _SOME = 0.05, 0.01  # shares of a split

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Row:
    """A row of train or dev, or of a file that is split by itself; `place` says where."""

    place: str
    example: Example

    @property
    def key(self) -> Key:
        return folded(self.example.fields)


def examine_duplicates(splits: Splits, options: DataOptions | None = None) -> list[Finding]:
    """Texts that are equal up to case and spaces, in the splits; with `options` also in the files as they are,
    where those with two labels can still be seen: reading keeps one of each.

    Raises DataError as reading does.
    """
    rows, whole = (_split_rows(splits), False) if options is None else _file_rows(options)
    groups: dict[Key, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    repeated = [group for group in groups.values() if len(group) > 1]
    found = [*_contradicting(splits, rows, repeated, whole), *_across(splits)]
    repeats = sum(len(group) - 1 for group in repeated)
    within = splits.test.counted(lambda tested: [len(tested) - len({folded(e.fields) for e in tested})])[0]
    if repeats or splits.duplicates_removed or within:
        found += _within(splits, repeats, within, len(rows))
    return found or [fine("duplicates", "No text stands twice.")]


def _split_rows(splits: Splits) -> list[_Row]:
    return [
        _Row(f"{name} row {example.number}", example)
        for name, part in (("train", splits.train), ("dev", splits.dev))
        for example in part
    ]


def _file_rows(options: DataOptions) -> tuple[list[_Row], bool]:
    """The rows of the files, without those that are said to be of test; whether none are, so that all are there."""
    found = labelled_rows(options, test_file=False)
    kept = [_Row(row.place, row.example) for row in found if row.split != "test"]
    return kept, options.test is None and len(kept) == len(found)


def _contradicting(splits: Splits, rows: Sequence[_Row], repeated: Iterable[list[_Row]], whole: bool) -> list[Finding]:
    """Equal texts with different labels. whole: `rows` are those of test too."""
    groups = [group for group in repeated if len({row.example.label for row in group}) > 1]
    tested = 0 if whole else _contradicted(splits, rows)
    if not groups and not tested:
        return []
    shown = next((g for g in groups if splits.test.without([g[0].example])), None)  # no test text leaves
    details: dict[str, Any] = {"texts": len(groups), "test": tested}
    parts = [number_of(len(groups), "text stands", "texts stand") + " twice or more with different labels"] * bool(
        groups
    )
    if tested:
        parts.append(number_of(tested, "test text stands", "test texts stand") + " in train or dev with another label")
    message = " and ".join(parts)
    if shown is not None:
        first = shown[0]
        other = next(row for row in shown if row.example.label != first.example.label)
        message += (
            f", for instance {quoted(first.example.fields)}: {first.place} says {quoted(first.example.label)}, "
            f"{other.place} says {quoted(other.example.label)}"
        )
        details["example"] = quoted(first.example.fields)
        details["places"] = [first.place, other.place]
    return [problem("duplicates", message + ". Only one label can be right: correct or remove the others.", **details)]


def _contradicted(splits: Splits, rows: Iterable[_Row]) -> int:
    labels: dict[Key, set[str]] = {}
    for row in rows:
        labels.setdefault(row.key, set()).add(row.example.label)
    return splits.test.counted(
        lambda tested: [sum(bool(labels.get(folded(e.fields), set()) - {e.label}) for e in tested)]
    )[0]


def _across(splits: Splits) -> list[Finding]:
    """Texts that stand in two splits still, in other case or spaces: what is equal to a sign is left out when read."""
    trained, developed = ({folded(e.fields) for e in part} for part in (splits.train, splits.dev))
    dev = [example.number for example in splits.dev if folded(example.fields) in trained]
    known = trained | developed
    test = splits.test.counted(lambda tested: [sum(folded(e.fields) in known for e in tested)])[0]
    if not dev and not test:
        return []
    free = {(e.number, e.key) for e in splits.test.without([*splits.train, *splits.dev])}
    rows = {
        name: listed(example.number for example in part if (example.number, example.key) not in free)
        for name, part in (("train", splits.train), ("dev", splits.dev))
    }
    shares = max(len(dev) / len(splits.dev), test / len(splits.test))
    return [
        (problem if shares >= _MANY else warning)(
            "duplicates",
            f"{number_of(len(dev), 'dev text stands', 'dev texts stand')} in train too, and {test:,} of "
            f"{number_of(len(splits.test), 'test text')} in train or dev, but for case and spaces. "
            "What was seen is answered too well: remove the rows from train and dev.",
            dev_in_train=len(dev),
            dev_rows=listed(dev),
            test_in_train_or_dev=test,
            train_rows_in_test=rows["train"],
            dev_rows_in_test=rows["dev"],
        )
    ]


def _within(splits: Splits, repeats: int, within: int, rows: int) -> list[Finding]:
    message = (
        f"{number_of(repeats, 'row repeats', 'rows repeat')} a text of before ({percent(repeats, rows)}); "
        f"{splits.duplicates_removed:,} that are equal to a sign were left out when the data was read."
    )
    if within:
        message += f" In test {within:,} differ in case and spaces alone."
    many = repeats >= _MANY * rows or within >= _SOME * len(splits.test)
    details = {"repeats": repeats, "removed": splits.duplicates_removed, "test": within}
    if not many:
        return [fine("duplicates", message, **details)]
    return [warning("duplicates", message + " Such data holds less than its rows say: count on fewer.", **details)]
