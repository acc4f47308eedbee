"""The metrics that come with the package, by name."""

from __future__ import annotations

from autoprompt.metrics.base import Metric
from autoprompt.metrics.classes import CLASSES, accuracy, log_loss, macro_f1
from autoprompt.metrics.numbers import NUMBERS
from autoprompt.metrics.sets import SETS
from autoprompt.metrics.texts import TEXTS, numeric_match

__all__ = ["METRICS", "accuracy", "log_loss", "macro_f1", "metrics_for"]

METRICS: dict[str, Metric] = {found.name: found for found in (*CLASSES, *SETS, *NUMBERS, *TEXTS)}


def metrics_for(target: str) -> tuple[str, ...]:
    """The names of those that are made for a kind of target: label, labels, option, number, text or program."""
    families = {"label": CLASSES, "option": CLASSES, "labels": SETS, "number": (*NUMBERS, numeric_match)}
    return tuple(found.name for found in families.get(target, (accuracy, *TEXTS)))
