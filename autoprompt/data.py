"""Labelled examples: read, checked, split once, leaks refused.

The test split is locked: it can be read only through `LockedSplit.open`, which tells whoever
listens that it was.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any

from autoprompt.errors import DataError, nearest

__all__ = [
    "DataOptions",
    "Example",
    "LockedSplit",
    "Splits",
    "fields_of",
    "fingerprint",
    "folded",
    "read_rows",
    "read_splits",
]

Row = tuple[str, Mapping[str, Any]]  # (where it stands, its columns)
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Example:
    """One labelled example; `number` is its place in the order in which its split is scored.

    label: the target, as text. references: other texts that are right too, for targets that are written. aside:
    columns that metrics may read and no prompt shows, such as the tests of a program.
    """

    number: int
    fields: Mapping[str, str]
    label: str
    references: tuple[str, ...] = ()
    aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """What makes two examples the same input."""
        return tuple(sorted(self.fields.items()))


@dataclass(frozen=True)
class DataOptions:
    """Where the examples are and how they are split.

    Either `file` (split by `shares`, or by the column `split`), or the three files `train`,
    `dev` and `test`. `shares` are those of train, dev and test.
    """

    label: str
    fields: tuple[str, ...] = ("text",)
    file: Path | None = None
    train: Path | None = None
    dev: Path | None = None
    test: Path | None = None
    split: str | None = None
    shares: tuple[float, float, float] = (0.4, 0.3, 0.3)


class LockedSplit:
    """The test split: its size and fingerprint are known, its examples only after `open`."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.__examples = tuple(examples)
        self.fingerprint = fingerprint(examples)

    def __len__(self) -> int:
        return len(self.__examples)

    def open(self, reason: str, tell: Callable[[str], None]) -> tuple[Example, ...]:
        """The examples; `tell` is called with `reason` first, so that each opening is on record."""
        tell(reason)
        return self.__examples

    def without(self, examples: Iterable[Example]) -> list[Example]:
        """Those of `examples` that do not stand in the split, whatever their case and spaces."""
        held = {folded(example.fields) for example in self.__examples}
        return [example for example in examples if folded(example.fields) not in held]

    def counted(self, measure: Callable[[tuple[Example, ...]], Iterable[int]]) -> tuple[int, ...]:
        """What `measure` counts in the examples. Whole numbers are all that leaves: no text, no opening on record."""
        return tuple(map(index, measure(self.__examples)))


@dataclass(frozen=True)
class Splits:
    """Three disjoint splits of one data set, and what was done to make them so."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: LockedSplit
    labels: tuple[str, ...]
    duplicates_removed: int = 0
    fingerprints: Mapping[str, str] = field(default_factory=dict)


def folded(fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What inputs that differ only in case and spaces have in common."""
    return tuple((name, " ".join(fields[name].casefold().split())) for name in sorted(fields))


def fingerprint(examples: Iterable[Example]) -> str:
    """A hash of the examples in their order: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.key, example.label], ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


# -- files -----------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL or CSV file, each with the place it stands at.

    Raises DataError when the file is missing, empty, not UTF-8, or not of its format.
    """
    if not path.exists():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"There is no data file {path}.{near}")
    if path.suffix.lower() not in {".jsonl", ".csv", ".tsv"}:
        raise DataError(f"{path} ends in {path.suffix!r}; data files are .jsonl, .csv or .tsv.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}). Save it as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    rows = _jsonl(path, text) if path.suffix.lower() == ".jsonl" else _csv(path, text)
    if not rows:
        raise DataError(f"{path} holds no examples; it needs one a line.")
    return rows


def fields_of(place: str, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """The texts of some columns of a row. Raises DataError, with the place, when it lacks one."""
    missing = [name for name in names if row.get(name) is None]
    if missing:
        raise DataError(
            f"{place}: there is no column {missing[0]!r}; it has {', '.join(row)}.{nearest(missing[0], row)}"
        )
    return {name: _whole(str(row[name]).strip()) for name in names}


def _whole(text: str) -> str:
    """The text with a question mark for each half of a character, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _jsonl(path: Path, text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}). Each line is one JSON object.") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number} is {type(value).__name__}; each line is one JSON object.")
        rows.append((f"{path.name}, line {number}", value))
    return rows


def _csv(path: Path, text: str) -> list[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {reader.line_num} has not as many columns as the header "
                    f"({', '.join(reader.fieldnames or ())}). Quote fields that hold a {delimiter!r}."
                )
            rows.append((f"{path.name}, line {reader.line_num}", row))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.reader.line_num} is not CSV ({error}).") from None
    return rows


# -- rows to examples ------------------------------------------------------------------------


def _value(place: str, row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        names = ", ".join(map(str, row)) or "none"
        raise DataError(f"{place}: there is no column {column!r}; it has {names}.{nearest(column, map(str, row))}")
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{place}: column {column!r} is {repr(value)[:60]}; a text or a number is needed.")
    text = str(value).strip()
    if not text:
        raise DataError(f"{place}: column {column!r} is empty. Fill it or remove the row.")
    return _whole(text)


def _examples(rows: Sequence[Row], options: DataOptions) -> list[Example]:
    return [
        Example(
            number,
            {column: _value(place, row, column) for column in options.fields},
            _value(place, row, options.label),
        )
        for number, (place, row) in enumerate(rows)
    ]


def _without(examples: Iterable[Example], seen: set[tuple[tuple[str, str], ...]]) -> list[Example]:
    """The examples whose input was not seen before; adds theirs to `seen`."""
    kept = []
    for example in examples:
        if example.key not in seen:
            seen.add(example.key)
            kept.append(example)
    return kept


def read_splits(options: DataOptions, seed: int) -> Splits:
    """Train, dev and locked test of the files, the same for the same seed.

    Exact duplicates are removed, first those that would stand in two splits: test keeps its
    examples, dev gives way to test, train to both. Raises DataError when a file is missing or
    broken, a column is missing, a text is empty, only one class is there, or a class has too few
    examples to stand in all three splits.
    """
    if options.file is not None and options.split is None:
        examples = _examples(read_rows(options.file), options)
        distinct = _without(examples, set())
        _check_classes(distinct, minimum=3, what=options.file.name)
        ordered = sorted(distinct, key=lambda e: (e.key, e.label))  # the file's order does not matter
        parts = _stratified(ordered, options.shares, seed)
        removed = len(examples) - len(distinct)
    else:
        given = _given_splits(options)
        seen: set[tuple[tuple[str, str], ...]] = set()
        parts = {name: _without(given[name], seen) for name in reversed(SPLITS)}
        removed = sum(map(len, given.values())) - sum(map(len, parts.values()))
    return _numbered(parts, removed, seed)


def _given_splits(options: DataOptions) -> dict[str, list[Example]]:
    if options.file is None:
        paths = {"train": options.train, "dev": options.dev, "test": options.test}
        missing = [name for name, path in paths.items() if path is None]
        if missing:
            raise DataError(f"[data] names no file and no {missing[0]}; give file, or all of train, dev and test.")
        return {name: _examples(read_rows(path), options) for name, path in paths.items() if path is not None}
    assert options.split is not None
    rows: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for place, row in read_rows(options.file):
        name = _value(place, row, options.split)
        if name not in rows:
            raise DataError(
                f"{place}: column {options.split!r} is {name!r}; "
                f"allowed are train, dev and test.{nearest(name, SPLITS)}"
            )
        rows[name].append((place, row))
    for name, found in rows.items():
        if not found:
            raise DataError(f"{options.file}: no row has {name!r} in column {options.split!r}.")
    return {name: _examples(found, options) for name, found in rows.items()}


def _check_classes(examples: Sequence[Example], minimum: int, what: str) -> None:
    counts = Counter(example.label for example in examples)
    if len(counts) == 1:
        raise DataError(
            f"{what} has only one class, {next(iter(counts))!r}; at least two are needed. "
            "Is [data] label the right column?"
        )
    few = sorted(label for label, count in counts.items() if count < minimum)
    if few:
        shown = ", ".join(f"{label!r} ({counts[label]})" for label in few[:5]) + (", …" if len(few) > 5 else "")
        raise DataError(
            f"{what} has {len(few)} of {len(counts)} classes with fewer than {minimum} examples: {shown}. "
            "Add examples, merge classes, or check that [data] label is the column of the classes."
        )


def _stratified(examples: Sequence[Example], shares: tuple[float, float, float], seed: int) -> dict[str, list[Example]]:
    """Each class is shuffled by itself and dealt to the splits by their shares, at least one each."""
    parts: dict[str, list[Example]] = {name: [] for name in SPLITS}
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.label, []).append(example)
    for label, members in sorted(by_label.items()):
        random.Random(f"{seed} split {label}").shuffle(members)
        total = sum(shares)
        dev = max(1, round(len(members) * shares[1] / total))
        test = max(1, round(len(members) * shares[2] / total))
        if dev + test >= len(members):
            dev = test = (len(members) - 1) // 2
        parts["dev"] += members[:dev]
        parts["test"] += members[dev : dev + test]
        parts["train"] += members[dev + test :]
    return parts


def _numbered(parts: Mapping[str, Sequence[Example]], removed: int, seed: int) -> Splits:
    """The splits in their final, shuffled order, checked."""
    ordered: dict[str, tuple[Example, ...]] = {}
    for name in SPLITS:
        if not parts[name]:
            raise DataError(f"The {name} split is empty after duplicates were removed. Give it examples of its own.")
        shuffled = sorted(parts[name], key=lambda e: (e.key, e.label))
        random.Random(f"{seed} order {name}").shuffle(shuffled)
        ordered[name] = tuple(Example(number, e.fields, e.label) for number, e in enumerate(shuffled))
    _check_classes(ordered["train"], 1, "The train split")
    labels = tuple(sorted({example.label for example in ordered["train"]}))
    for name in ("dev", "test"):
        strange = sorted({e.label for e in ordered[name]} - set(labels))
        if strange:
            raise DataError(
                f"The {name} split has the class {strange[0]!r}, which no training example has "
                f"(there: {', '.join(labels[:8])}).{nearest(strange[0], labels)}"
            )
    return Splits(
        train=ordered["train"],
        dev=ordered["dev"],
        test=LockedSplit(ordered["test"]),
        labels=labels,
        duplicates_removed=removed,
        fingerprints={name: fingerprint(ordered[name]) for name in SPLITS},
    )
