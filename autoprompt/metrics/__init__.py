"""Metrics: answers and targets in, a number per example and one for all.

A metric is a decorated function:

    from autoprompt.metrics import metric

    @metric
    def cost_weighted(targets, predictions):
        return [0.0 if t == p else -5.0 if t == "fraud" else -1.0 for t, p in zip(targets, predictions)]

It is named in the space file as `metric = "metrics.py:cost_weighted"`, or published as an entry
point in the group `autoprompt.metrics`. It is called with keyword arguments, as many of these as
it names: `targets` and `predictions` (lists of texts), `probabilities` (N, C) and `labels`
(the C labels of its columns), `references` (of each example all right answers, the target first),
`rows` (of each its columns) and `answers` (as the predictions, None where one could not be read).
It returns one number an example, folded by their mean, or, for metrics of the whole set, one
number; or {"value": either, "feedback": a text an example}. A metric of the whole set may name a
function that gives one number an example where examples are few: `@metric(proxy=function)`.

A metric that is loaded by such a name runs in a process of its own (`process`, `child`), within a
time limit: what it raises, prints or breaks there becomes a `MetricError`, and the run goes on.
One that asks for `engine`, to judge with the task's model, runs beside that model.
"""

from autoprompt.metrics.base import Metric, Outcome, metric
from autoprompt.metrics.chosen import make_metric
from autoprompt.metrics.plugins import load_metric

__all__ = ["Metric", "Outcome", "load_metric", "make_metric", "metric"]
