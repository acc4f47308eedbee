"""Two outcomes on the same examples: how sure their difference is.

Which interval was decided by measurement (tests/benchmarks/truth.py): the percentile bootstrap covers the truth too
seldom where prompts agree on most examples, BCa and the studentized bootstrap where differences are few or skewed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from autoprompt.metrics import Metric, Outcome
from autoprompt.soft import seed_of
from autoprompt.verdict.quantiles import student

__all__ = ["CHUNK", "binary_pair", "is_same", "like", "mixed", "paired_interval", "standard_error"]

Floats = NDArray[np.float64]

CHUNK = 50  # outcomes that a metric of the whole set is asked for at once
_GROUPS = 500  # most groups of a jackknife
_TURNED = 50  # examples whose answer is changed to learn what one answer is worth


def paired_interval(
    metric: Metric, first: Outcome, second: Outcome, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of metric(second) - metric(first) on the same examples.

    For values 0 and 1 the score interval of a difference of paired proportions (Tango 1998, Statistics in Medicine
    17, equations 5 to 8), cut to [-1, 1]; for others Student's t on `standard_error`. Outcomes that are the same to
    the last bit come from the same answers: their difference is 0 for certain.
    """
    if is_same(first, second):
        return 0.0, 0.0
    size, values = len(first.targets), binary_pair(metric, first, second)
    if values is not None:
        gained, lost = int((values[1] > values[0]).sum()), int((values[1] < values[0]).sum())
        return _score_interval(gained, lost, size, NormalDist().inv_cdf((1 + confidence) / 2))
    before, after = metric.many([first, second])
    half = student((1 + confidence) / 2, max(1, min(size, _GROUPS) - 1)) * standard_error(metric, first, second, seed)
    return after - before - half, after - before + half


def is_same(first: Outcome, second: Outcome) -> bool:
    """Whether two outcomes have the same labels and the same probabilities, bit by bit."""
    same = first.labels == second.labels and first.predictions == second.predictions
    return same and np.array_equal(first.probabilities, second.probabilities)


def binary_pair(metric: Metric, first: Outcome, second: Outcome) -> tuple[Floats, Floats] | None:
    """The metric of each example, (N,) and (N,), where every value is 0 or 1; None for other metrics."""
    before, after = metric.each([first, second])
    if not (before.ndim and after.ndim and np.isin(np.concatenate([before, after]), (0.0, 1.0)).all()):
        return None
    return before, after


def standard_error(metric: Metric, first: Outcome, second: Outcome, seed: int = 0) -> float:
    """The standard error of metric(second) - metric(first), in the metric's units.

    Of values of examples it is that of their mean difference. Of a metric of the whole set it is the jackknife's,
    which wants the metric to be smooth: without one example, or beyond 500 without one of 500 random groups
    (Busing, Meijer & van der Leeden 1999, "Delete-m jackknife for unequal m").

    Where many examples are tied, the few that are not tell too little of how large differences can be; so two more
    examples are counted, with a difference as it is seen elsewhere, as Bonett & Price (2012) do for proportions: their
    variance is added in the share of ties.
    """
    before, after = metric.each([first, second])
    if not (before.ndim and after.ndim):
        return _whole_set_error(metric, first, second, seed)
    differences = after - before
    size, apart = len(differences), differences[differences != 0]
    variance = float(differences.var(ddof=1)) if size > 1 else float(np.square(differences).sum())
    # of tied values alone: two answers that have nothing to do with each other differ like this
    square = float(np.square(apart).mean()) if len(apart) else 2 * float(before.var())
    return math.sqrt(variance / size + 2 * square * (1 - len(apart) / size) / size**2)


# -- values 0 and 1 ------------------------------------------------------------------------------


def _score_interval(gained: int, lost: int, size: int, deviations: float) -> tuple[float, float]:
    """Tango's interval of (gained - lost) / size: all differences that the score test does not reject."""
    estimate = (gained - lost) / size

    def statistic(difference: float) -> float:
        b = (2 * size - gained + lost) * difference - gained - lost
        root = math.sqrt(max(0.0, b * b + 8 * size * lost * difference * (1 - difference)))
        share = max(0.0, (root - b) / (4 * size))  # of lost ones, the likeliest where the difference is given
        variance = size * max(0.0, 2 * share + difference * (1 - difference))
        return abs(size * (estimate - difference)) / math.sqrt(variance) if variance > 0 else math.inf

    def bound(outer: float) -> float:
        inner = estimate
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if statistic(middle) > deviations else (middle, outer)
        return inner

    return bound(-1.0), bound(1.0)


# -- metrics of the whole set ----------------------------------------------------------------------


def _whole_set_error(metric: Metric, first: Outcome, second: Outcome, seed: int) -> float:
    size = len(first.targets)
    ties, square = _tied(metric, first, second), _turned(metric, second)
    return math.sqrt(_jackknife(metric, first, second, seed) + 2 * square * ties / size**2)


def _jackknife(metric: Metric, first: Outcome, second: Outcome, seed: int) -> float:
    """The variance of the difference; of one example, its square."""
    size = len(first.targets)
    [whole_before, whole_after] = metric.many([first, second])
    if size < 2:
        return (whole_after - whole_before) ** 2
    rows = np.arange(size)
    order = rows if size <= _GROUPS else np.random.default_rng(seed_of(seed, "jackknife")).permutation(size)
    groups = np.array_split(order, min(size, _GROUPS))
    kept = [np.delete(rows, group) for group in groups]
    before, after = _each(metric, first, kept), _each(metric, second, kept)
    times = size / np.array([len(group) for group in groups])
    pseudo = times * (whole_after - whole_before) - (times - 1) * (after - before)
    centre = len(groups) * (whole_after - whole_before) - float(((1 - 1 / times) * (after - before)).sum())
    return float((np.square(pseudo - centre) / (times - 1)).mean())


def _each(metric: Metric, outcome: Outcome, rows: list[NDArray[np.int64]]) -> Floats:
    """The metric on each choice of rows; one in another process is asked for many at a time."""
    chunks = [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]
    return np.array([value for chunk in chunks for value in metric.many([outcome.take(chosen) for chosen in chunk])])


def _tied(metric: Metric, first: Outcome, second: Outcome) -> float:
    """The share of examples on which the outcomes say the same: the same answer, where only answers count."""
    if first.answers is not None or second.answers is not None:
        return float(np.mean([a == b for a, b in zip(first.predictions, second.predictions, strict=True)]))
    bare = [Outcome(o.targets, np.eye(len(o.labels))[o.probabilities.argmax(1)], o.labels) for o in (first, second)]
    if metric.many(bare) == metric.many([first, second]):
        return float(np.mean([a == b for a, b in zip(first.predictions, second.predictions, strict=True)]))
    return float((first.probabilities == like(first, second).probabilities).all(1).mean())


def _turned(metric: Metric, outcome: Outcome) -> float:
    """The mean square of what another answer to an example does to the metric, as one example's difference."""
    size = len(outcome.targets)
    chosen = np.unique(np.linspace(0, size - 1, min(size, _TURNED)).astype(np.int64))
    turned = []
    for at in chosen:
        if outcome.answers is not None:  # that of the example before it
            said = list(outcome.answers)
            said[at] = outcome.answers[at - 1]
            turned.append(replace(outcome, answers=tuple(said)))
            continue
        rows = outcome.probabilities.copy()
        rows[at] = np.roll(rows[at], 1)
        turned.append(replace(outcome, probabilities=rows))
    return float(np.square(size * (np.array(metric.many(turned)) - metric(outcome))).mean())


def like(first: Outcome, second: Outcome) -> Outcome:
    """The second outcome with its columns in the order of the first one's labels; a label that it lacks has none."""
    if first.labels == second.labels:
        return second
    at = {label: column for column, label in enumerate(second.labels)}
    columns = [second.probabilities[:, at[x]] if x in at else np.zeros(len(second.targets)) for x in first.labels]
    return replace(second, probabilities=np.stack(columns, 1), labels=first.labels)


def mixed(first: Outcome, second: Outcome, chosen: NDArray[np.bool_]) -> Outcome:
    """The first outcome with the second's answers where `chosen` (N,); both have the same labels."""
    said = None
    if first.answers is not None and second.answers is not None:
        pairs = zip(first.answers, second.answers, chosen.tolist(), strict=True)
        said = tuple(b if take else a for a, b, take in pairs)
    probabilities = np.where(chosen[:, None], second.probabilities, first.probabilities)
    return replace(first, probabilities=probabilities, answers=said)
