"""Who may be called the winner: estimates without the luck of selection, and evidence against the baseline.

The best of many scores is too high, and most of all when the prompts hardly differ. So scores are
shrunk toward the group's mean as far as the choice of examples explains their differences (empirical
Bayes; James & Stein 1961, Efron & Morris 1973). And a candidate is promoted over the user's own
prompt only beyond luck: it must win its bet against the baseline at a level divided by the number of
candidates that were raced (Bonferroni), so that a search among prompts that are all worth the same
promotes one in at most `level` of cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprompt.metrics import Metric, Outcome
from autoprompt.racing.bets import Bets

__all__ = ["Entrant", "Standing", "inflation", "per_example", "standings"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Entrant:
    """A candidate on all n examples. evidence (n,): bounded margins. values (n,): the metric of each
    example, greater or smaller is better as the metric says."""

    evidence: Floats
    values: Floats


@dataclass(frozen=True)
class Standing:
    """estimate: the metric, shrunk. evidence: log wealth of the bet that the baseline is at least as
    good. certain: whether that is enough to promote the candidate over the baseline."""

    estimate: float
    evidence: float
    certain: bool


def per_example(metric: Metric, outcome: Outcome) -> Floats:
    """The metric of each example (n,).

    For a metric of the whole set, the jackknife's pseudo-values n f - (n - 1) f_without_i (Tukey
    1958), whose mean is about f and whose deviation is that of its estimate. Raises MetricError
    when the function breaks its contract.
    """
    found = metric.per_example(outcome)
    if found is not None:
        return found
    size = len(outcome.targets)
    whole, rows = metric(outcome), np.arange(size)
    without = np.array(metric.many([outcome.take(np.delete(rows, i)) for i in rows])) if size > 1 else np.array([whole])
    return np.asarray(size * whole - (size - 1) * without)


def standings(
    entrants: Sequence[Entrant], raced: int, maximize: bool = True, level: float = 0.05, baseline: int = 0
) -> list[Standing]:
    """How each entrant stands; `baseline` is the number of the user's own among them, and certain.

    raced: how many candidates the search compared with the baseline, those dropped included.
    """
    sign = 1 if maximize else -1
    estimates = shrunk(np.stack([entrant.values for entrant in entrants]))
    own, needed = entrants[baseline], math.log(max(1, raced) / level)
    found = []
    for at, entrant in enumerate(entrants):
        wealth = _evidence(entrant, own, sign)
        found.append(Standing(float(estimates[at]), wealth, at == baseline or wealth >= needed))
    return found


def _evidence(entrant: Entrant, own: Entrant, sign: int) -> float:
    """Log wealth of betting on the margins and, where the metric is 0 or 1, half of it on the metric."""
    margins = Bets()
    margins.add(own.evidence - entrant.evidence)
    differences = sign * (own.values - entrant.values)
    if np.abs(differences).max(initial=0.0) > 1:  # a bet needs bounds that hold for every example
        return margins.log_wealth
    metric = Bets()
    metric.add(differences)
    return float(np.logaddexp(margins.log_wealth, metric.log_wealth) - math.log(2))


def shrunk(values: Floats) -> Floats:
    """The mean (K,) of each row (K, n), shrunk toward the group's mean: m + (1 - noise / variance) (x - m)."""
    means = values.mean(1)
    return np.asarray(means.mean() + (1 - _luck(values)) * (means - means.mean()))


def inflation(evidence: Sequence[Floats]) -> float:
    """By how much the best mean of several (n,) is expected to be too high because it is the best."""
    if not evidence:
        return 0.0
    rows = np.stack(evidence)
    means = rows.mean(1)
    return _luck(rows) * float(means.max() - means.mean())


def _luck(rows: Floats) -> float:
    """The share of the means' variance (K, n) that comes from the choice of examples, within [0, 1].

    An example's difficulty, which all candidates share, is taken off first: only what sets candidates
    apart matters. Of fewer than 3 candidates nothing is known.
    """
    if len(rows) < 3 or rows.shape[1] < 2:
        return 0.0
    observed = float(rows.mean(1).var(ddof=1))
    apart = rows - rows.mean(0)
    noise = float(apart.var(1, ddof=1).sum() / (len(rows) - 1) / rows.shape[1])
    return min(1.0, noise / observed) if observed > 0 else 0.0
