"""Metrics of answers that are each one of some labels."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from autoprompt.metrics.base import Metric, metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CLASSES", "accuracy", "balanced_accuracy", "log_loss", "macro_f1", "mcc", "micro_f1", "weighted_f1"]


def right(targets: list[str], predictions: list[str]) -> list[float]:
    """1 for a right answer, 0 for a wrong one."""
    return [float(target == prediction) for target, prediction in zip(targets, predictions, strict=True)]


@metric(worst=0.0)
def accuracy(targets: list[str], predictions: list[str]) -> list[float]:
    """The share of right answers."""
    return right(targets, predictions)


@metric(proxy=right, worst=0.0)
def balanced_accuracy(targets: list[str], predictions: list[str]) -> float:
    """The unweighted mean of the recalls of the labels that are targets."""
    from sklearn.metrics import recall_score

    classes, t, p = _numbered(targets, predictions)
    known = sorted(classes[label] for label in set(targets))
    return float(recall_score(t, p, labels=known, average="macro", zero_division=0)) if known else 0.0


@metric(proxy=right, worst=0.0)
def macro_f1(targets: list[str], predictions: list[str], labels: list[str]) -> float:
    """The unweighted mean of the labels' F1 scores; labels that occur nowhere do not count."""
    hits = Counter(target for target, answer in zip(targets, predictions, strict=True) if target == answer)
    occurrences = Counter(targets) + Counter(predictions)
    known = dict.fromkeys([*labels, *targets])
    scores = [2 * hits[label] / occurrences[label] for label in known if occurrences[label]]
    return sum(scores) / len(scores) if scores else 0.0


@metric(proxy=right, worst=0.0)
def micro_f1(targets: list[str], predictions: list[str], labels: list[str]) -> float:
    """The F1 score of all labels counted together; it is the accuracy where each answer is a label."""
    return _f1(targets, predictions, labels, "micro")


@metric(proxy=right, worst=0.0)
def weighted_f1(targets: list[str], predictions: list[str], labels: list[str]) -> float:
    """The mean of the labels' F1 scores, weighted by how often each is the target."""
    return _f1(targets, predictions, labels, "weighted")


@metric(proxy=right, worst=-1.0)
def mcc(targets: list[str], predictions: list[str]) -> float:
    """Matthews' correlation of targets and answers over all labels (Gorodkin 2004); 0 where one side is constant."""
    from sklearn.metrics import matthews_corrcoef

    if len({*targets, *predictions}) < 2:  # which the library warns of
        return 0.0
    _, t, p = _numbered(targets, predictions)
    return float(matthews_corrcoef(t, p))


@metric(maximize=False, worst=-math.log(1e-15))
def log_loss(targets: list[str], probabilities: NDArray[np.float64], labels: list[str]) -> list[float]:
    """Minus the natural logarithm of the target's probability, not below 1e-15."""
    at = {label: i for i, label in enumerate(labels)}
    return [-math.log(max(row[at[target]], 1e-15)) for target, row in zip(targets, probabilities, strict=True)]


def _f1(targets: list[str], predictions: list[str], labels: list[str], average: str) -> float:
    from sklearn.metrics import f1_score

    classes, t, p = _numbered(targets, predictions)
    known = sorted(classes[label] for label in {*labels, *targets} & classes.keys())
    return float(f1_score(t, p, labels=known, average=average, zero_division=0)) if known else 0.0


def _numbered(targets: list[str], predictions: list[str]) -> tuple[dict[str, int], Any, Any]:
    """Each text that occurs with its number, in their order, and both sides as numbers (N,): faster than as texts."""
    import numpy as np

    classes = {label: i for i, label in enumerate(sorted({*targets, *predictions}))}
    return (
        classes,
        np.array([classes[t] for t in targets], np.int64),
        np.array([classes[p] for p in predictions], np.int64),
    )


CLASSES: tuple[Metric, ...] = (accuracy, balanced_accuracy, macro_f1, micro_f1, weighted_f1, mcc, log_loss)
