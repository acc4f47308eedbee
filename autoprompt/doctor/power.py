"""How small a difference so many examples can show."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["examples_for", "log_factorials", "smallest_difference"]

_TAIL, _POWER = 0.025, 0.8  # one of two sides of 5 %
_Z_LEVEL, _Z_POWER = 1.959963984540054, 0.8416212335729143  # normal quantiles of 0.975 and 0.8
_EXACT = 2_000  # examples up to which the exact test is computed
_FEWEST = 6  # discordant examples that can be significant: 2 / 2^6 < 0.05
_DEVIATIONS = 8.0  # of the number of discordant examples that are summed over

Floats = NDArray[np.float64]


def smallest_difference(examples: int, discordant: float = 0.2) -> float:
    """The smallest difference of two shares of right answers (0 to 1) that a paired comparison on so many examples
    shows with 80 % power, two-sided 5 %; infinity where not even the largest is shown.

    discordant: the share of examples on which just one of both prompts is right; a difference beyond it is
    taken to be all there is. Solved by bisection for the exact McNemar test (the sign test on the discordant
    examples, whose number is random); beyond 2,000 examples for the normal approximation of `examples_for`.

    >>> smallest_difference(200) > smallest_difference(800)
    True
    """
    share = min(max(discordant, 0.0), 1.0)
    if examples < _FEWEST:
        return math.inf
    if examples > _EXACT:
        return _smallest(lambda difference: examples_for(difference, share) <= examples)
    factorials = log_factorials(examples)
    return _smallest(lambda difference: _power(examples, difference, max(share, difference), factorials) >= _POWER)


def examples_for(difference: float, discordant: float = 0.2) -> float:
    """How many examples show a difference (above 0, to 1) with 80 % power, two-sided 5 %, by the normal
    approximation of Connor (1987, Biometrics 43:207)."""
    share = max(discordant, difference)
    spread = math.sqrt(max(share - difference**2, 0.0))
    return ((_Z_LEVEL * math.sqrt(share) + _Z_POWER * spread) / difference) ** 2


def log_factorials(most: int) -> Floats:
    """log k! for k from 0 to `most`."""
    return np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, most + 1, dtype=np.float64)))])


def _smallest(shown: Callable[[float], bool]) -> float:
    """The least difference that is shown, to a ten-thousandth; whatever shows it shows a larger one."""
    low, high = 0.0, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def _power(examples: int, difference: float, share: float, factorials: Floats) -> float:
    """The probability that the exact McNemar test finds the better prompt better."""
    middle, spread = examples * share, _DEVIATIONS * math.sqrt(examples * share * (1 - share)) + 1
    discordant = np.arange(max(_FEWEST, int(middle - spread)), min(examples, math.ceil(middle + spread)) + 1)
    if not len(discordant):
        return 0.0
    better = np.arange(int(discordant[-1]) + 1)
    even = _binomial(discordant[:, None], better, 0.5, factorials)
    rejected = np.cumsum(even[:, ::-1], axis=1)[:, ::-1] <= _TAIL  # P(at least so many are better)
    found = (_binomial(discordant[:, None], better, (share + difference) / (2 * share), factorials) * rejected).sum(1)
    return float((_binomial(np.array(examples), discordant, share, factorials) * found).sum())


def _binomial(trials: NDArray[np.int64], hits: NDArray[np.int64], chance: float, factorials: Floats) -> Floats:
    """P(hits) of so many trials, which are broadcast against each other; 0 where there are more hits than trials."""
    misses = np.maximum(trials - hits, 0)
    tiny = 1e-300  # whose logarithm is finite; its powers vanish
    logs = factorials[trials] - factorials[hits] - factorials[misses]
    logs = logs + hits * math.log(max(chance, tiny)) + misses * math.log(max(1 - chance, tiny))
    return np.where(hits <= trials, np.exp(np.minimum(logs, 0.0)), 0.0)
