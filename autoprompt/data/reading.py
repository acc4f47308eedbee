"""From files to three disjoint, checked splits."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoprompt.data.cells import Row, text_of
from autoprompt.data.classes import check_classes, labels_of, require_known
from autoprompt.data.columns import aside_of, inputs_of
from autoprompt.data.examples import Example, Key, fingerprint
from autoprompt.data.locked import SPLITS, LockedSplit, Splits
from autoprompt.data.options import DataOptions, Source
from autoprompt.data.splitting import by_folds, by_shares, strata_of
from autoprompt.data.tables import read_tables
from autoprompt.data.targets import target_reader
from autoprompt.errors import DataError, nearest

__all__ = ["Labelled", "labelled_rows", "read_inputs", "read_splits"]


@dataclass(frozen=True)
class Labelled:
    """A row as an example. place: where it stands. split: its own, or empty where the data do not say.

    group: what it must not be parted from. cuts: how many of its texts were too long.
    """

    place: str
    split: str
    example: Example
    group: str = ""
    cuts: int = 0


def labelled_rows(options: DataOptions, test_file: bool = True) -> list[Labelled]:
    """All rows as examples, in their order, duplicates too; without `test_file`, those of a file of test not.

    Raises DataError as `read_splits` does.
    """
    rows = _rows(options, test_file)
    target = target_reader([row for _, row in rows], options)
    found: list[Labelled] = []
    for split, (place, row) in rows:
        fields, cuts = inputs_of(place, row, options)
        answer = target(place, row)
        example = Example(len(found), fields, answer.label, answer.references, aside_of(place, row, options))
        group = "" if options.group is None else text_of(place, row, options.group)
        found.append(Labelled(place, split, example, group, cuts))
    return found


def read_inputs(source: Source, options: DataOptions) -> list[Example]:
    """The rows of a source without labels, read as the inputs of `options` are. Raises DataError."""
    rows = [row for found in read_tables(source, options.offline).values() for row in found]
    return [Example(number, inputs_of(place, row, options)[0], "") for number, (place, row) in enumerate(rows)]


def read_splits(options: DataOptions, seed: int) -> Splits:
    """Train, dev and locked test of the files, the same for the same seed.

    Exact duplicates are removed, first those that would stand in two splits: test keeps its
    examples, dev gives way to test, train to both. Raises DataError when a file is missing or
    broken, a column is missing, a text is empty, only one class is there, or a class has too few
    examples to stand in all three splits.
    """
    rows = labelled_rows(options)
    given: dict[str, list[Example]] = {}
    for row in rows:
        given.setdefault(row.split or "train", []).append(row.example)
    seen: set[Key] = set()
    parts = {name: _without(given[name], seen) for name in reversed(SPLITS) if name in given}
    removed = len(rows) - sum(map(len, parts.values()))
    notes = _notes(rows, options, list(parts))
    if len(parts) < len(SPLITS):
        parts |= _divided(parts, rows, options, seed)
    elif options.folds is not None or options.group is not None:
        key = "folds" if options.folds is not None else "group"
        raise DataError(f"[data] {key} is given, and the data have splits of their own; leave it out.")
    return _numbered(parts, removed, options, seed, notes)


def _without(examples: Iterable[Example], seen: set[Key]) -> list[Example]:
    """The examples whose input was not seen before; adds theirs to `seen`."""
    kept = []
    for example in examples:
        if example.key not in seen:
            seen.add(example.key)
            kept.append(example)
    return kept


# -- where the rows are ----------------------------------------------------------------------------


def _rows(options: DataOptions, test_file: bool) -> list[tuple[str, Row]]:
    """All rows, each with its split."""
    if options.file is None:
        return _three(options, test_file)
    tables = read_tables(options.file, options.offline)
    if options.split is None:
        return [(name, row) for name, found in tables.items() for row in found]
    rows = []
    for place, row in (row for found in tables.values() for row in found):
        name = text_of(place, row, options.split)
        if name not in SPLITS:
            raise DataError(
                f"{place}: column {options.split!r} is {name!r}; "
                f"allowed are train, dev and test.{nearest(name, SPLITS)}"
            )
        rows.append((name, (place, row)))
    where = options.file if isinstance(options.file, Path) else named(options.file)
    for name in SPLITS:
        if all(split != name for split, _ in rows):
            raise DataError(f"{where}: no row has {name!r} in column {options.split!r}.")
    return rows


def _three(options: DataOptions, test_file: bool) -> list[tuple[str, Row]]:
    paths = {"train": options.train, "dev": options.dev} | ({"test": options.test} if test_file else {})
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise DataError(f"[data] names no file and no {missing[0]}; give file, or all of train, dev and test.")
    rows = []
    for name, path in paths.items():
        if path is not None:
            tables = read_tables(path, options.offline)
            found = tables.get("", tables.get(name))
            if found is None:
                raise DataError(f"{named(path)} has the splits {', '.join(tables)}, and no {name}. Name one of them.")
            rows += [(name, row) for row in found]
    return rows


def named(source: Source | None) -> str:
    """A source in a message."""
    if isinstance(source, Path):
        return source.name
    return source if isinstance(source, str) else "The table"


def _notes(rows: Sequence[Labelled], options: DataOptions, given: Sequence[str]) -> list[str]:
    notes = []
    cuts = sum(row.cuts for row in rows)
    if cuts:
        which = "1 text was" if cuts == 1 else f"{cuts:,} texts were"
        notes.append(f"{which} cut to {options.longest:,} characters.")
    missing = [name for name in SPLITS if name not in given]
    if missing and any(row.split for row in rows):
        notes.append(f"{named(options.file)} has no {' and no '.join(missing)}; split off its training examples.")
    if options.folds is not None and options.fold is None:
        notes.append(f"These are the splits of the first of {options.folds} folds; a run takes one after the other.")
    return notes


# -- splits ----------------------------------------------------------------------------------------


def _divided(
    parts: Mapping[str, Sequence[Example]], rows: Sequence[Labelled], options: DataOptions, seed: int
) -> dict[str, list[Example]]:
    """Train, and what is missing, split off it."""
    if "train" not in parts:
        raise DataError(f"{named(options.file)} has no training examples; it has {' and '.join(parts)} alone.")
    shares = {name: share for name, share in zip(SPLITS, options.shares, strict=True) if name not in parts}
    check_classes(parts["train"], options.target, len(shares) + 1, named(options.file))
    ordered = sorted(parts["train"], key=lambda e: (e.key, e.label))  # the file's order does not matter
    strata = strata_of(ordered, options.target)
    groups = None if options.group is None else {row.example.key: row.group for row in reversed(rows)}
    if options.folds is None:
        return by_shares(ordered, {"train": options.shares[0], **shares}, strata, groups, seed)
    if len(shares) + 1 < len(SPLITS):
        raise DataError("[data] folds is given, and the data have splits of their own; leave it out.")
    return by_folds(ordered, options.folds, options.fold or 1, strata, groups, seed)


def _numbered(
    parts: Mapping[str, Sequence[Example]], removed: int, options: DataOptions, seed: int, notes: Sequence[str]
) -> Splits:
    """The splits in their final, shuffled order, checked."""
    ordered: dict[str, tuple[Example, ...]] = {}
    for name in SPLITS:
        if not parts[name]:
            raise DataError(f"The {name} split is empty after duplicates were removed. Give it examples of its own.")
        shuffled = sorted(parts[name], key=lambda e: (e.key, e.label))
        random.Random(f"{seed} order {name}").shuffle(shuffled)
        ordered[name] = tuple(replace(e, number=number) for number, e in enumerate(shuffled))
    check_classes(ordered["train"], options.target, 1, "The train split")
    require_known(ordered, options.target)
    return Splits(
        train=ordered["train"],
        dev=ordered["dev"],
        test=LockedSplit(ordered["test"]),
        labels=labels_of(ordered, options),
        duplicates_removed=removed,
        fingerprints={name: fingerprint(ordered[name]) for name in SPLITS},
        notes=tuple(notes),
    )
