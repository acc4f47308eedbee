"""Candidates, what the process says of them, and which of them make the next batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from autoprompt.samplers.features import Features
from autoprompt.samplers.points import Point
from autoprompt.samplers.process import Process

__all__ = ["Field", "log_improvement"]

Floats = NDArray[np.float64]


class Field:
    """Candidates with what the process says of them. best: the mean of the best prompt known."""

    def __init__(self, process: Process, features: Features, best: float) -> None:
        self._process, self._features, self._best = process, features, best
        self.points: list[Point] = []
        self._parts: dict[str, Floats] = {}
        self._means, self._variances, self._halves = np.zeros(0), np.zeros(0), np.zeros((0, 0))

    def add(self, points: Sequence[Point]) -> None:
        if not points:
            return
        parts = self._features.of([point.prompt for point in points])
        found = self._process.at(parts)
        if self.points:
            parts = {part: np.concatenate([self._parts[part], rows]) for part, rows in parts.items()}
            own = (self._means, self._variances, self._halves)
            found = tuple(np.concatenate(pair, axis=-1) for pair in zip(own, found, strict=True))  # type: ignore[assignment]
        self.points += points
        self._parts = parts
        self._means, self._variances, self._halves = found

    def tops(self, count: int) -> list[Point]:
        """The candidates of the greatest expected improvement."""
        promise = log_improvement(self._means, self._variances, self._best)
        return [self.points[at] for at in np.argsort(-promise, kind="stable")[:count]]

    def batch(self, count: int, noise: float) -> list[Point]:
        """The kriging believer's picks: what is believed leaves the means and takes from the variances.

        noise: the variance that a pick's own observation will have.
        """
        picked: list[int] = []
        variances, best, shifts = self._variances.copy(), self._best, list[Floats]()
        for _ in range(min(count, len(self.points))):
            promise = log_improvement(self._means, variances, best)
            promise[picked] = -np.inf
            one = int(promise.argmax())
            picked.append(one)
            shared = self._process.between(self._parts, self._halves, one)
            for shift in shifts:
                shared = shared - shift[one] * shift
            shifts.append(shared / math.sqrt(max(shared[one], 1e-12) + noise))
            variances = np.maximum(variances - shifts[-1] ** 2, 1e-12)
            best = max(best, float(self._means[one]))
        return [self.points[at] for at in picked]


def log_improvement(means: Floats, variances: Floats, best: float) -> Floats:
    """log E[max(f - best, 0)] of normal f; far below `best` by the first terms of its series."""
    deviations = np.sqrt(variances)
    z = (means - best) / deviations
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.log(density + z * ndtr(z))
    far = -0.5 * z * z - 0.5 * math.log(2 * math.pi) - np.log(z * z + 3)
    result: Floats = np.log(deviations) + np.where(z > -5, near, far)
    return result
