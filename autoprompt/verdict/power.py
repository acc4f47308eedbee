"""What so many test examples can show: the smallest true difference that is found in four of five cases."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from autoprompt.metrics import Metric, Outcome
from autoprompt.verdict.paired import binary_pair, standard_error

__all__ = ["DISCORDANT", "detectable", "detectable_before"]

Floats = NDArray[np.float64]

DISCORDANT = 0.2  # assumed share of examples that one of two prompts answers right, and the other does not
_LEVEL, _POWER = 1.959964, 0.841621  # normal quantiles: two-sided 5 %, and 80 %
_COUNTED = 1000  # examples, beyond which the normal distribution is near enough


def detectable(metric: Metric, first: Outcome, second: Outcome, seed: int = 0) -> float:
    """The smallest true difference that as many examples show with 80 % power at two-sided 5 %, in the metric's units.

    For values 0 and 1 from the share of examples on which the outcomes differ (`detectable_before`), for others from
    the standard error of the difference that was measured.
    """
    binary = binary_pair(metric, first, second)
    if binary is not None:
        return detectable_before(len(first.targets), float((binary[0] != binary[1]).mean()))
    return (_LEVEL + _POWER) * standard_error(metric, first, second, seed)


def detectable_before(examples: int, discordant: float = DISCORDANT) -> float:
    """The same of right and wrong answers, with nothing measured but what share of examples is answered differently.

    From the power of McNemar's exact test, summed over how many examples may differ; beyond 1,000 examples as Connor
    (1987, Biometrics 43) approximates it, with continuity correction. A difference cannot be greater than the
    discordant share: where it must be, all that is answered differently is gained. 1.0 where there is none: fewer than
    six examples show nothing.
    """
    low, high = 0.0, 1.0
    rejected = _rejected(examples) if examples <= _COUNTED else None
    for _ in range(30):
        middle = (low + high) / 2
        share = max(discordant, middle)
        if rejected is None:
            needed = 1 + _LEVEL * math.sqrt(examples * share) + _POWER * math.sqrt(examples * (share - middle**2))
            shows = examples * middle >= needed
        else:
            shows = _power(rejected, middle, share) >= 0.8
        low, high = (low, middle) if shows else (middle, high)
    return high


def _rejected(examples: int) -> NDArray[np.bool_]:
    """Row m, column k: whether k losses of m examples that differ are too few for chance, at 2.5 %."""
    return np.cumsum(_binomials(np.arange(examples + 1), 0.5), axis=1) <= 0.025


def _power(rejected: NDArray[np.bool_], difference: float, share: float) -> float:
    """The probability that the test finds a difference, where `share` of the examples is answered differently."""
    examples = len(rejected) - 1
    spread = 6 * math.sqrt(examples * share * (1 - share)) + 1
    counts = np.arange(max(0, int(examples * share - spread)), min(examples, int(examples * share + spread)) + 1)
    chances = _binomials(np.array([examples]), share)[0, counts]
    few = int(rejected[counts].sum(1).max(initial=0))  # losses beyond are rejected nowhere
    found = (_binomials(counts, (share - difference) / (2 * share), few) * rejected[counts][:, :few]).sum(1)
    return float(chances @ found)


def _binomials(counts: NDArray[np.int64], share: float, columns: int | None = None) -> Floats:
    """P(k of m), row by m of `counts`, column by k from 0 on; 0 where k > m."""
    most = int(counts.max())
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    k = np.arange(most + 1 if columns is None else columns)
    rest = counts[:, None] - k
    share = min(max(share, 1e-300), 1 - 1e-12)
    log = logs[counts][:, None] - logs[k] - logs[np.maximum(rest, 0)]
    log += k * math.log(share) + rest * math.log1p(-share)
    return np.where(rest >= 0, np.exp(np.where(rest >= 0, log, 0.0)), 0.0)
