"""Metrics under constraints: a prompt that breaks one is worth less than any that breaks none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from autoprompt.errors import MetricError, nearest
from autoprompt.metrics.base import Metric, Outcome
from autoprompt.metrics.returned import Judged
from autoprompt.metrics.sets import names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Constrained", "Constraint", "constrained", "read_constraint"]

_OF_A_LABEL = ("recall", "precision", "f1")
_FORM = re.compile(r"\s*(\w+)\s*(?:\[([^\[\]]+)\])?\s*(>=|<=)\s*(-?(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?)\s*", re.ASCII)


@dataclass(frozen=True)
class Constraint:
    """A bound of what is measured: of one label (recall, precision or f1), or of all examples by a metric."""

    measure: str | Metric
    label: str
    least: bool
    bound: float

    def shortfall(self, outcome: Outcome) -> float:
        """By how much an outcome breaks it; 0 where it does not, or where the measure is not defined."""
        value = self.measure(outcome) if isinstance(self.measure, Metric) else _of_label(self, outcome)
        if value is None:
            return 0.0
        return max(0.0, self.bound - value if self.least else value - self.bound)


def read_constraint(text: str, labels: Sequence[str], metrics: Mapping[str, Metric]) -> Constraint:
    """A constraint as it is written: "recall[billing] >= 0.9", "precision[spam] >= 0.8", "accuracy >= 0.7".

    labels: that may stand in brackets; any where there are none. metrics: that may be bounded, by name. Raises
    MetricError with what is allowed.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise MetricError(
            f"The constraint {text[:80]!r} cannot be read; write it as 'recall[LABEL] >= 0.9', also with precision or "
            "f1, or as 'accuracy >= 0.7', with >= or <=."
        )
    measure, label, sign, bound = found[1], (found[2] or "").strip(), found[3], float(found[4])
    if not label:
        if measure not in metrics:
            hint = f" Write '{measure}[LABEL] {sign} {found[4]}'." if measure in _OF_A_LABEL else ""
            raise MetricError(
                f"The constraint {text[:80]!r} names no metric {measure!r}; allowed are {', '.join(sorted(metrics))}."
                + (hint or nearest(measure, metrics))
            )
        return Constraint(metrics[measure], "", sign == ">=", bound)
    if measure not in _OF_A_LABEL:
        raise MetricError(
            f"The constraint {text[:80]!r} has {measure!r} of a label; allowed are {', '.join(_OF_A_LABEL)}."
            + nearest(measure, _OF_A_LABEL)
        )
    if labels and label not in labels:
        raise MetricError(
            f"The constraint {text[:80]!r} names no label {label!r}; allowed are {', '.join(labels)}."
            + nearest(label, labels)
        )
    return Constraint(measure, label, sign == ">=", bound)


def _of_label(constraint: Constraint, outcome: Outcome) -> float | None:
    """Recall, precision or F1 of a label; None where no example has it, or for precision no answer."""
    label = constraint.label
    wanted = [label == text or label in names(text) for text in outcome.targets]
    given = [label == text or label in names(text) for text in outcome.predictions]
    hits = sum(w and g for w, g in zip(wanted, given, strict=True))
    sizes = {"recall": sum(wanted), "precision": sum(given), "f1": (sum(wanted) + sum(given)) / 2}
    size = sizes[str(constraint.measure)]
    return hits / size if size else None


@dataclass(frozen=True, kw_only=True)
class Constrained(Metric):
    """A metric under constraints, one number for all examples.

    It is the metric's own value where all constraints hold, or its worst value where it is beyond that. Where some are
    broken it is the worst value less the sum of the shortfalls (more, where less is better): so it is worse than any
    that breaks none, and the better the less is missing. The values of the examples and the proxy are the metric's.
    """

    inner: Metric
    constraints: tuple[Constraint, ...]

    def judge(self, outcomes: Sequence[Outcome]) -> list[Judged]:
        import numpy as np

        return [
            Judged(np.asarray(self._bounded(float(found.values.mean()), outcome)), found.feedback)
            for found, outcome in zip(self.inner.judge(outcomes), outcomes, strict=True)
        ]

    def per_example(self, outcome: Outcome) -> Floats | None:
        return self.inner.per_example(outcome)

    def proxy(self, outcome: Outcome) -> Floats:
        return self.inner.proxy(outcome)

    def _bounded(self, value: float, outcome: Outcome) -> float:
        sign, worst = 1 if self.maximize else -1, float(self.worst or 0.0)
        missing = sum(constraint.shortfall(outcome) for constraint in self.constraints)
        return worst - sign * missing if missing > 0 else sign * max(sign * value, sign * worst)


def constrained(inner: Metric, constraints: Sequence[Constraint]) -> Metric:
    """A metric under constraints; itself where there are none. Raises MetricError where it has no worst value."""
    if not constraints:
        return inner
    if inner.worst is None:
        raise MetricError(
            f"The metric {inner.name!r} has no worst value, below which a prompt that breaks a constraint is put; "
            "give one: worst = ... beside the constraints."
        )
    return Constrained(
        inner.name,
        inner.function,
        inner.maximize,
        inner.stand_in,
        inner.arguments,
        inner.worst,
        inner=inner,
        constraints=tuple(constraints),
    )
