"""The metric that a space file chooses: by name, with costs, under constraints, and others beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from autoprompt.errors import MetricError
from autoprompt.metrics.base import Metric
from autoprompt.metrics.builtin import METRICS
from autoprompt.metrics.constraints import constrained, read_constraint
from autoprompt.metrics.costs import cost_metric
from autoprompt.metrics.plugins import load_metric

__all__ = ["COST", "Choice", "make_metric"]

COST = "cost"


class Choice(Protocol):
    """What the table [metric] says.

    also: names of metrics that are reported beside it. worst: the end of its values, for constraints. maximize, key:
    of a metric of the library evaluate; its direction, and which of its numbers counts.
    """

    @property
    def name(self) -> str: ...
    @property
    def also(self) -> Sequence[str]: ...
    @property
    def constraints(self) -> Sequence[str]: ...
    @property
    def costs(self) -> Mapping[str, Mapping[str, float]]: ...
    @property
    def default(self) -> float: ...
    @property
    def worst(self) -> float | None: ...
    @property
    def maximize(self) -> bool | None: ...
    @property
    def key(self) -> str | None: ...


def make_metric(
    section: str | Choice, folder: Path, labels: Sequence[str] = ("yes", "no", "maybe"), seconds: float = 60.0
) -> Metric:
    """The metric that a name or a table chooses; the arguments are those of `load_metric`.

    Raises MetricError when a metric cannot be loaded, or with what is wrong in costs and constraints.
    """
    if isinstance(section, str):
        if section == COST:
            raise MetricError("The metric 'cost' needs costs: [metric] with name = \"cost\" and costs = {...}.")
        return load_metric(section, folder, labels, seconds)
    _require_fitting(section)
    known = dict(METRICS)
    if section.name == COST:
        known[COST] = found = cost_metric(section.costs, section.default, labels)
    else:
        found = load_metric(section.name, folder, labels, seconds, section.key, section.maximize)
    if section.worst is not None:
        found = replace(found, worst=section.worst)
    bounds = [read_constraint(text, labels, known) for text in section.constraints]
    beside = tuple(load_metric(name, folder, labels, seconds) for name in section.also)
    return replace(constrained(found, bounds), also=beside)


def _require_fitting(section: Choice) -> None:
    """Raise MetricError where a key is given that its metric does not have."""
    if section.name == COST and not section.costs:
        raise MetricError("The metric 'cost' needs costs, such as costs = { billing = { technical = 5.0 } }.")
    if section.name != COST and section.costs:
        raise MetricError(f'costs are given, and the metric is {section.name!r}; they belong to name = "cost".')
    if section.name.startswith("evaluate:"):
        return
    for key, value in {"maximize": section.maximize, "key": section.key}.items():
        if value is not None:
            raise MetricError(
                f"{key} is given, and the metric is {section.name!r}; it belongs to metrics of the library evaluate. "
                "Your own metric says it in @metric(maximize=...)."
            )
