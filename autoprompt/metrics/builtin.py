"""The metrics that come with the package."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from autoprompt.metrics.base import Metric, metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["METRICS", "accuracy", "log_loss", "macro_f1"]


@metric
def accuracy(targets: list[str], predictions: list[str]) -> list[float]:
    """The share of right answers."""
    return [float(target == prediction) for target, prediction in zip(targets, predictions, strict=True)]


@metric
def macro_f1(targets: list[str], predictions: list[str], labels: list[str]) -> float:
    """The unweighted mean of the labels' F1 scores; labels that occur nowhere do not count."""
    scores = []
    for label in labels:
        hits = sum(t == label == p for t, p in zip(targets, predictions, strict=True))
        occurrences = sum(t == label for t in targets) + sum(p == label for p in predictions)
        if occurrences:
            scores.append(2 * hits / occurrences)
    return sum(scores) / len(scores) if scores else 0.0


@metric(maximize=False)
def log_loss(targets: list[str], probabilities: NDArray[np.float64], labels: list[str]) -> list[float]:
    """Minus the natural logarithm of the target's probability, not below 1e-15."""
    at = {label: i for i, label in enumerate(labels)}
    return [-math.log(max(row[at[target]], 1e-15)) for target, row in zip(targets, probabilities, strict=True)]


METRICS: dict[str, Metric] = {found.name: found for found in (accuracy, macro_f1, log_loss)}
