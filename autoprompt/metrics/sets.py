"""Metrics of answers that are sets of labels: names joined by ", ", or "none" for the empty set.

An answer that could not be read is the empty text: it is wrong whatever the target, and adds no label.
"""

from __future__ import annotations

from typing import Any

from autoprompt.metrics.base import Metric, metric

__all__ = ["EMPTY", "SETS", "example_f1", "multilabel_macro_f1", "multilabel_micro_f1", "names", "subset_accuracy"]

EMPTY = "none"


def names(text: str) -> frozenset[str]:
    """The labels of an answer.

    >>> sorted(names("sad, angry")), sorted(names("none"))
    (['angry', 'sad'], [])
    """
    return frozenset() if text.strip() == EMPTY else frozenset(part.strip() for part in text.split(", "))


def overlap(targets: list[str], predictions: list[str]) -> list[float]:
    """For each example the F1 score of its labels; 1 where both sets are empty."""
    found = []
    for target, prediction in zip(targets, predictions, strict=True):
        wanted, given = names(target), names(prediction)
        found.append(2 * len(wanted & given) / (len(wanted) + len(given)) if wanted or given else 1.0)
    return found


@metric(worst=0.0)
def subset_accuracy(targets: list[str], predictions: list[str]) -> list[float]:
    """The share of answers with exactly the right labels."""
    return [float(names(t) == names(p)) for t, p in zip(targets, predictions, strict=True)]


@metric(worst=0.0)
def example_f1(targets: list[str], predictions: list[str]) -> list[float]:
    """The mean over the examples of the F1 score of their labels; 1 where both sets are empty."""
    return overlap(targets, predictions)


@metric(proxy=overlap, worst=0.0)
def multilabel_micro_f1(targets: list[str], predictions: list[str]) -> float:
    """The F1 score of all pairs of example and label counted together."""
    return _f1(targets, predictions, "micro")


@metric(proxy=overlap, worst=0.0)
def multilabel_macro_f1(targets: list[str], predictions: list[str]) -> float:
    """The unweighted mean of the labels' F1 scores; labels that occur nowhere do not count."""
    return _f1(targets, predictions, "macro")


def _f1(targets: list[str], predictions: list[str], average: str) -> float:
    from sklearn.metrics import f1_score

    wanted, given = [names(text) for text in targets], [names(text) for text in predictions]
    occurring = sorted(frozenset().union(*wanted, *given) - {""})
    if not occurring:  # all targets are empty: right where no answer adds a label, and each could be read
        return float(bool(targets) and wanted == given)
    columns = {label: at for at, label in enumerate(occurring)}
    score = f1_score(_table(wanted, columns), _table(given, columns), average=average, zero_division=0)
    return float(score)


def _table(sets: list[frozenset[str]], columns: dict[str, int]) -> Any:
    """One row an example, one column a label (N, C), 1 where the set has it."""
    import numpy as np

    found = np.zeros((len(sets), max(1, len(columns))), np.int8)
    for row, labels in zip(found, sets, strict=True):
        row[[columns[label] for label in labels if label]] = 1
    return found


SETS: tuple[Metric, ...] = (subset_accuracy, example_f1, multilabel_micro_f1, multilabel_macro_f1)
