"""Shapley values as one linear map of what coalitions are worth: all of them, or a sample of orders."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprompt.soft import seed_of

__all__ = ["Coalitions", "coalitions"]

Floats = NDArray[np.float64]
_LEAST, _MOST = 5, 1000  # pairs of orders


@dataclass(frozen=True, eq=False)
class Coalitions:
    """Which coalitions of n players are needed, and how their worths become values.

    members (M, n): who is in each; the first has none and the second all. weights (P, n, M): one map for each
    pair of orders, or a single one that is exact. The mean over P maps worths (M, ...) to the values (n, ...).

    >>> plan = coalitions(2, budget=4)
    >>> worth = np.array([{(): 0.0, (0,): 1.0, (1,): 0.0, (0, 1): 4.0}[tuple(np.flatnonzero(m))] for m in plan.members])
    >>> plan.values(worth).tolist()
    [2.5, 1.5]
    """

    members: NDArray[np.bool_]
    weights: Floats

    @property
    def exact(self) -> bool:
        return len(self.weights) == 1

    def values(self, worth: Floats) -> Floats:
        """Shapley values (n, ...) of worths (M, ...)."""
        return np.asarray(np.tensordot(self.weights.mean(0), worth, 1))

    def errors(self, worth: Floats) -> Floats:
        """Standard errors (n,) that sampling leaves in the values of worths (M,); zeros where they are exact."""
        if self.exact:
            return np.zeros(self.members.shape[1])
        found = self.weights @ worth
        return np.asarray(found.std(0, ddof=1) / math.sqrt(len(found)))

    def alone(self, worth: Floats) -> Floats:
        """What each player (n,) is worth more than nobody."""
        places = [self._place({player}) for player in range(self.members.shape[1])]
        return np.asarray(worth[places] - worth[0])

    def last(self, worth: Floats) -> Floats:
        """What is lost when each player (n,) alone is missing."""
        everyone = set(range(self.members.shape[1]))
        return np.asarray(worth[1] - worth[[self._place(everyone - {player}) for player in sorted(everyone)]])

    def _place(self, players: set[int]) -> int:
        wanted = np.isin(np.arange(self.members.shape[1]), sorted(players))
        return int(np.flatnonzero((self.members == wanted).all(1))[0])


def coalitions(players: int, budget: int = 128, seed: int = 0) -> Coalitions:
    """The coalitions of `players` players: all where these are at most `budget`, else those of sampled orders.

    Exact: phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)) (Shapley 1953). Sampled: the
    mean of what each player adds in random orders, which is unbiased and sums to v(all) - v(none) in each order
    (Castro, Gómez & Tejada 2009), the orders in antithetic pairs, each with its reverse (Mitchell et al.
    2022, section 4.1). Pairs are drawn until the budget would not hold the next; five at least, so
    that the standard error means something. Each player alone, and all but each, are always among the coalitions.
    """
    if 2**players <= budget:
        return _all(players)
    everyone = 2**players - 1
    known = dict.fromkeys(
        [0, everyone, *(1 << i for i in range(players)), *(everyone ^ 1 << i for i in range(players))]
    )
    pairs: list[list[int]] = []
    generator = np.random.default_rng(seed_of(seed, "orders of parts", players))
    while len(pairs) < _MOST:
        order = [int(player) for player in generator.permutation(players)]
        new = dict.fromkeys([*_steps(order), *_steps(order[::-1])])
        if len(pairs) >= _LEAST and len(known | new) > budget:
            break
        known |= new
        pairs.append(order)
    places = {mask: at for at, mask in enumerate(known)}
    weights = np.zeros((len(pairs), players, len(known)))
    for pair, order in enumerate(pairs):
        for way in (order, order[::-1]):
            steps = _steps(way)
            for player, before, after in zip(way, steps[:-1], steps[1:], strict=True):
                weights[pair, player, places[after]] += 0.5
                weights[pair, player, places[before]] -= 0.5
    return Coalitions(_members(list(known), players), weights)


def _all(players: int) -> Coalitions:
    masks = sorted(range(2**players), key=lambda mask: (mask != 0, mask != 2**players - 1, mask))
    weights = np.zeros((1, players, len(masks)))
    for at, mask in enumerate(masks):
        size = mask.bit_count()
        for player in range(players):
            if mask >> player & 1:
                weights[0, player, at] = 1 / (players * math.comb(players - 1, size - 1))
            else:
                weights[0, player, at] = -1 / (players * math.comb(players - 1, size))
    return Coalitions(_members(masks, players), weights)


def _steps(order: list[int]) -> list[int]:
    """The coalitions on the way from nobody to all."""
    masks = [0]
    for player in order:
        masks.append(masks[-1] | 1 << player)
    return masks


def _members(masks: list[int], players: int) -> NDArray[np.bool_]:
    return np.array([[bool(mask >> player & 1) for player in range(players)] for mask in masks])
