"""How small a difference so many examples can show."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from autoprompt.verdict import detectable_before

__all__ = ["examples_for", "log_factorials", "smallest_difference"]

_Z_LEVEL, _Z_POWER = 1.959963984540054, 0.8416212335729143  # normal quantiles of 0.975 and 0.8

Floats = NDArray[np.float64]


def smallest_difference(examples: int, discordant: float = 0.2) -> float:
    """The smallest difference of two shares of right answers (0 to 1) that a paired comparison on so many examples
    shows with 80 % power, two-sided 5 %; infinity where not even the largest is shown.

    discordant: the share of examples on which just one of both prompts is right; a difference beyond it is
    taken to be all there is. See `detectable_before`.

    >>> smallest_difference(200) > smallest_difference(800)
    True
    """
    found = detectable_before(examples, min(max(discordant, 0.0), 1.0)) if examples else 1.0
    return found if found < 1 else math.inf


def examples_for(difference: float, discordant: float = 0.2) -> float:
    """How many examples show a difference (above 0, to 1) with 80 % power, two-sided 5 %, by the normal
    approximation of Connor (1987, Biometrics 43:207)."""
    share = max(discordant, difference)
    spread = math.sqrt(max(share - difference**2, 0.0))
    return ((_Z_LEVEL * math.sqrt(share) + _Z_POWER * spread) / difference) ** 2


def log_factorials(most: int) -> Floats:
    """log k! for k from 0 to `most`."""
    return np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, most + 1, dtype=np.float64)))])
