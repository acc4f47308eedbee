"""Evidence that holds at any time: betting against the claim that a candidate is at least as good.

A test by betting (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by
betting", section 4): let d_t in [-1, 1] be the paired differences of two candidates on example t. If
E[d_t | d_1 .. d_{t-1}] >= 0, then for every fixed bet b in (0, 1) the wealth W_t = prod (1 - b d_s)
is a nonnegative supermartingale that starts at 1, and so is an average of such wealths over several
bets. By Ville's inequality it ever reaches 1/level with probability at most `level`: however often
one looks, and whenever one stops. What is compared may be chosen anew for each example from what
came before it; the differences need no distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bets"]

Floats = NDArray[np.float64]
_BETS = np.array([0.4, 0.9])  # large ones, for differences that are small against their bound


class Bets:
    """The wealth of bets that a mean difference is below zero.

    >>> bets = Bets()
    >>> bets.add(np.full(20, -0.5))
    >>> bets.log_wealth > 3
    True
    """

    def __init__(self) -> None:
        self._logs = np.zeros(len(_BETS))

    def add(self, differences: Floats) -> None:
        """Bet on the next differences (n,), each in [-1, 1]."""
        self._logs += np.log1p(-_BETS[:, None] * np.clip(differences, -1.0, 1.0)).sum(1)

    @property
    def log_wealth(self) -> float:
        """log W, natural; at least log(1 / level) is a rejection at that level."""
        return float(np.logaddexp.reduce(self._logs) - np.log(len(self._logs)))
