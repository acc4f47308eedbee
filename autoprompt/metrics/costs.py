"""What wrong answers cost: a mean over the examples, less is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoprompt.errors import MetricError, nearest
from autoprompt.metrics.base import Metric, metric

__all__ = ["cost_metric"]


def cost_metric(costs: Mapping[str, Mapping[str, float]], default: float, labels: Sequence[str]) -> Metric:
    """The mean cost of the answers: `costs[target][answer]`, `default` for pairs that are not given, 0 if right.

    An answer that could not be read, or is no label, costs as much as the dearest wrong answer to its target. labels:
    that may be named; any where there are none. Raises MetricError for a name that is no label, or a right answer with
    a cost.

    >>> cost = cost_metric({"billing": {"technical": 5.0}}, 1.0, ("billing", "technical"))
    >>> cost.function(["billing", "technical", "billing"], ["technical", "billing", ""])
    [5.0, 1.0, 5.0]
    """
    for target, row in costs.items():
        for name in (target, *row):
            if labels and name not in labels:
                raise MetricError(
                    f"The costs name no label {name!r}; allowed are {', '.join(labels)}.{nearest(name, labels)}"
                )
        if row.get(target):
            raise MetricError(f"The costs give {row[target]:g} for {target!r} answered right; that costs nothing.")
    dearest = {target: max([default, *row.values()]) for target, row in costs.items()}
    known = {*labels, *costs, *(name for row in costs.values() for name in row)}

    @metric(maximize=False, worst=max([default, *dearest.values()]))
    def cost(targets: list[str], predictions: list[str]) -> list[float]:
        return [
            0.0
            if target == answer
            else costs.get(target, {}).get(answer, default)
            if answer in known
            else dearest.get(target, default)
            for target, answer in zip(targets, predictions, strict=True)
        ]

    return cost
