"""What a metric is called on: the answers beside the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What was answered, beside the targets.

    probabilities is (N, C), its columns in the order of `labels`; where answers are written, C is 0. answers: what
    was answered, where it is not the likeliest label: a written text as it was read, or a number; None where it
    could not be read. references: for each example other texts that are right too. rows: for each example its columns.
    """

    targets: tuple[str, ...]
    probabilities: Floats
    labels: tuple[str, ...]
    answers: tuple[str | None, ...] | None = None
    references: tuple[tuple[str, ...], ...] = ()
    rows: Sequence[Mapping[str, str]] = ()

    @property
    def predictions(self) -> list[str]:
        """The answers; one that could not be read is empty."""
        if self.answers is not None:
            return ["" if answer is None else answer for answer in self.answers]
        return [self.labels[i] for i in self.probabilities.argmax(1)] if len(self.targets) else []

    @property
    def accepted(self) -> list[tuple[str, ...]]:
        """The right answers of each example, the target first."""
        further = self.references or [()] * len(self.targets)
        return [(target, *more) for target, more in zip(self.targets, further, strict=True)]

    def take(self, rows: NDArray[np.int64]) -> Outcome:
        """The outcome of some examples, in the order of `rows`; repeats are allowed."""
        at = [int(row) for row in rows]
        return Outcome(
            tuple(self.targets[i] for i in at),
            self.probabilities[rows],
            self.labels,
            None if self.answers is None else tuple(self.answers[i] for i in at),
            tuple(self.references[i] for i in at) if self.references else (),
            tuple(self.rows[i] for i in at) if self.rows else (),
        )
