"""The metrics that come with the package, by name."""

from __future__ import annotations

from autoprompt.metrics.base import Metric
from autoprompt.metrics.classes import CLASSES, accuracy, log_loss, macro_f1
from autoprompt.metrics.numbers import NUMBERS
from autoprompt.metrics.sets import SETS
from autoprompt.metrics.texts import TEXTS

__all__ = ["METRICS", "accuracy", "log_loss", "macro_f1"]

METRICS: dict[str, Metric] = {found.name: found for found in (*CLASSES, *SETS, *NUMBERS, *TEXTS)}
