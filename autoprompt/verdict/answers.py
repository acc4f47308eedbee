"""What was answered, where an answer may be no label."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from autoprompt.metrics import Outcome

__all__ = ["UNPARSEABLE", "answers", "is_labelled", "known_labels", "probability_of"]

UNPARSEABLE = ""


def is_labelled(outcome: Outcome) -> bool:
    """Whether the answers are labels, and not texts or numbers."""
    return outcome.answers is None


def known_labels(*outcomes: Outcome) -> frozenset[str]:
    """The labels that all outcomes have, and those that occur as targets: an answer that is none is unparseable."""
    common = frozenset.intersection(*(frozenset(outcome.labels) for outcome in outcomes))
    return (common | frozenset(outcomes[0].targets)) - {UNPARSEABLE}


def answers(outcome: Outcome, known: Collection[str]) -> list[str]:
    """The answers; UNPARSEABLE where one is no known label, or where no probability is above 0 or one is not finite.

    Of texts and numbers, UNPARSEABLE where one could not be read.
    """
    if outcome.answers is not None:
        return [UNPARSEABLE if answer is None else answer for answer in outcome.answers]
    rows = outcome.probabilities
    told: NDArray[np.bool_] = np.logical_and(np.isfinite(rows).all(1), (rows > 0).any(1))
    return [a if ok and a in known else UNPARSEABLE for a, ok in zip(outcome.predictions, told, strict=True)]


def probability_of(outcome: Outcome, labels: Collection[str]) -> NDArray[np.float64]:
    """The probability (N,) that each example's entry of `labels` has; 0 where it has none."""
    at = {label: column for column, label in enumerate(outcome.labels)}
    found = [row[at[label]] if label in at else 0.0 for row, label in zip(outcome.probabilities, labels, strict=True)]
    return np.nan_to_num(np.array(found, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
