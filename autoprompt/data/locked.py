"""The three splits, of which test is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index

from autoprompt.data.examples import Example, fingerprint, folded

__all__ = ["SPLITS", "LockedSplit", "Splits"]

SPLITS = ("train", "dev", "test")


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
    """Three disjoint splits of one data set, and what was done to make them so.

    labels: the classes; single labels, where an example may have several; letters, where it has options of its
    own; none for numbers and texts. notes: what a user should know of how they were made, a sentence each.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: LockedSplit
    labels: tuple[str, ...]
    duplicates_removed: int = 0
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
